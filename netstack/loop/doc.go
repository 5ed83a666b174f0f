// SPDX-License-Identifier: Apache-2.0

// Package loop is the event loop that carries slipway's traffic: one goroutine,
// one epoll instance, and no goroutine per socket.
//
// # Why not a goroutine per direction
//
// A relay with two goroutines per connection costs 4 to 8 KiB of stack for each
// idle one, and two scheduler hand-overs for each packet. Here an idle socket
// costs a slot of 32 bytes, and a packet is read, decided on and written by the
// goroutine that learned of it.
//
// # How it waits
//
// The epoll instance is itself a file descriptor known to the Go runtime's
// poller. While there is nothing to do, the loop's goroutine is parked there and
// holds no thread; a parked loop therefore never makes the scheduler take a
// processor away from it, as a blocking epoll_wait(2) would.
//
// # Rules
//
// Handlers, tasks and everything called from them run on the loop, one at a
// time: what they own needs no lock. They must not block. Add, Remove, Forget,
// Park, Again and Defer belong to the loop too; Post, Wake and Close may be called from
// anywhere. Events that were already fetched for a descriptor removed meanwhile
// are recognised by the generation in their token and dropped, so that a reused
// descriptor number never gets its predecessor's events. Where a descriptor is used
// again, the token stays the same (Park, Again), and it is the turn that tells.
//
// A turn of the loop is: fetch events without waiting; call their handlers; let
// other goroutines run once, so that what the handlers handed to gVisor is
// processed; run the posted and the deferred tasks. It parks only when a turn
// found nothing.
package loop
