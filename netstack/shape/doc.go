// SPDX-License-Identifier: Apache-2.0

// Package shape bounds how much passes in one direction in a time: a token bucket, and
// the notation for it.
//
// A Bucket fills with so many bytes a second, up to the burst. Streams and datagrams use
// it differently.
//
// A stream may be kept waiting: its mover asks Ready before it reads, and when the bucket
// is empty it reads no more until Wait is over. So the bytes stay with the sender, by
// TCP's own flow control, and nothing is lost or queued here.
//
// A datagram is passed or dropped at once, by Pass. It may take what is not there yet, up
// to a debt of a burst, which streams then wait for: a name is resolved beside a
// download, and a flood of datagrams still does not exceed the rate.
//
// All methods of a nil Bucket say that there is no bound.
package shape
