// SPDX-License-Identifier: Apache-2.0

// Package seqpacket receives messages from Unix sockets that keep them apart
// (SOCK_SEQPACKET of unix(7)), to the last one.
//
// Where the other end sends a message and closes, a socket that does not block may tell of
// the end first: the kernel looks for a message, finds none, and then for the end, which
// has come by now, with the message before it (__unix_dgram_recvmsg of net/unix/af_unix.c;
// Linux 6.18). The message is there for who looks again. This happens once in a thousand
// times where one end waits for just that.
//
// So Recvmsg looks again where it is told of the end, and that time does not wait: the
// second answer is true, since nothing comes after the end. Receive does the same for a
// connection of package net, with its deadlines. Neither keeps anything of a socket.
package seqpacket
