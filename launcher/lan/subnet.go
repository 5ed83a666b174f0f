// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// subnetFile is the file in a network's directory that says which addresses it has.
const subnetFile = "subnet"

// maxSubnetFile bounds in bytes what is read of such a file.
const maxSubnetFile = 4096

// The subnets of IPv4: 10.89.N.0/24, as Podman's are.
const (
	subnetFirst = 10
	subnetNext  = 89
	subnetBits4 = 24
	subnetBits6 = 64
	ulaFirst    = 0xfd // RFC 4193 §3.1, with the L bit set
	ulaBytes    = 7    // of which are random: the global id and the subnet's
)

// Host numbers that members have in their subnets, in both families the same.
const (
	firstHost = 2
	lastHost  = 254
)

// chooseSubnets returns the network's subnets. They are made where they are not there
// yet, and are then different from those of the other networks beside dir. The caller
// holds the lock of all networks.
func chooseSubnets(dir string) ([]netip.Prefix, error) {
	if own, err := readSubnets(dir); err == nil {
		return own, nil
	}
	others, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", subnetFile))
	if err != nil {
		return nil, err
	}
	var taken []netip.Prefix
	for _, o := range others {
		// What cannot be read takes nothing.
		s, _ := readSubnets(filepath.Dir(o))
		taken = append(taken, s...)
	}
	for n := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{subnetFirst, subnetNext, byte(n), 0}), subnetBits4)
		if !slices.Contains(taken, p) {
			subnets := []netip.Prefix{p, randomSubnet6()}
			return subnets, writeSubnets(dir, subnets)
		}
	}
	return nil, errors.New("all subnets of 10.89.0.0/16 are taken by other networks: end the containers of one")
}

func randomSubnet6() netip.Prefix {
	var b [16]byte
	b[0] = ulaFirst
	rand.Read(b[1 : 1+ulaBytes]) // never fails: crypto/rand.Read
	return netip.PrefixFrom(netip.AddrFrom16(b), subnetBits6)
}

func readSubnets(dir string) ([]netip.Prefix, error) {
	b, err := os.ReadFile(filepath.Join(dir, subnetFile))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSubnetFile {
		return nil, fmt.Errorf("%s: longer than %d bytes", filepath.Join(dir, subnetFile), maxSubnetFile)
	}
	return parseSubnets(b)
}

func parseSubnets(b []byte) ([]netip.Prefix, error) {
	var s []netip.Prefix
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read subnets: %w", err)
	}
	if len(s) != 2 || !s[0].Addr().Is4() || s[0].Bits() != subnetBits4 || !s[1].Addr().Is6() || s[1].Bits() != subnetBits6 ||
		s[0] != s[0].Masked() || s[1] != s[1].Masked() {
		return nil, fmt.Errorf("read subnets: %v: want one of IPv4 and one of IPv6", s)
	}
	return s, nil
}

func writeSubnets(dir string, s []netip.Prefix) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, subnetFile+".new")
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, subnetFile))
}

// forgetSubnets frees the subnets of a network that has ended.
func forgetSubnets(dir string) error {
	err := os.Remove(filepath.Join(dir, subnetFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// station returns what the member with the host number is.
func station(subnets []netip.Prefix, host byte) Station {
	var s Station
	for _, p := range subnets {
		b := p.Addr().AsSlice()
		b[len(b)-1] = host
		a, _ := netip.AddrFromSlice(b)
		s.Addrs = append(s.Addrs, netip.PrefixFrom(a, p.Bits()))
	}
	// Locally administered, and made from the IPv4 address.
	first := s.Addrs[0].Addr().As4()
	s.MAC = net.HardwareAddr{0x5a, 0x57, first[0], first[1], first[2], first[3]}
	return s
}

// hostOf returns the host number of a station of the subnets, or 0.
func hostOf(subnets []netip.Prefix, s *Station) byte {
	if s == nil || len(s.Addrs) != len(subnets) {
		return 0
	}
	b := s.Addrs[0].Addr().AsSlice()
	host := b[len(b)-1]
	if host < firstHost || host > lastHost {
		return 0
	}
	want := station(subnets, host)
	if !slices.Equal(want.Addrs, s.Addrs) {
		return 0
	}
	return host
}
