// SPDX-License-Identifier: Apache-2.0

// Package dhcp configures containers that configure themselves: a DHCPv4 server
// (RFC 2131) and a DHCPv6 server (RFC 8415) for the one link behind a tap.
//
// # Theory of operation
//
// A Server is a pair of functions from the payload of a request datagram to the
// payload of its reply; the caller owns ports, headers and frames. It does not
// block and starts nothing. Messages are read and written by the insomniacslk/dhcp
// library.
//
// Each family has a pool: the plan's container address first, then its lease
// range. The first client so gets the address that a configured container has. An
// address is in one of these states, which time alone ends:
//
//   - free: never given, or its time is over.
//   - offered: in a DHCPOFFER or ADVERTISE, for offerTime.
//   - bound: acknowledged, for LeaseTime; a release ends it at once.
//   - declined: the client found somebody else there; for LeaseTime.
//
// A client, known by its hardware address in DHCPv4 and by its DUID and IAID in
// DHCPv6, gets the address it had last for as long as nobody else needs it. We are
// the only server on the link, so that DHCPv4 requests for addresses that cannot be
// had are refused with DHCPNAK even where we have no record of the client, which
// moves a container with an old lease to this network at once.
//
// DHCPv6 stands beside SLAAC: the router advertisement has the O flag, so that most
// clients ask for the resolver only (INFORMATION-REQUEST); those that ask for an
// address get one.
//
// # Limits
//
// No relays, no BOOTP, no prefix delegation or temporary addresses, no
// reconfiguration, no record that outlives the process. The pools bound memory:
// seventeen addresses a family. Requests above maxRequest bytes are ignored, and
// DHCPv6 options that play no part here are cut out before the library sees them:
// it expands compressed domain names, for which one datagram could keep it busy
// for long.
package dhcp
