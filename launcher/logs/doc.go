// SPDX-License-Identifier: Apache-2.0

// Package logs keeps what a detached container writes, and shows it.
//
// A log is a file of lines in the format of Kubernetes' container runtimes
// (kubernetes/design-proposals-archive, node/kubelet-cri-logging.md), which log
// shippers read:
//
//	2026-11-25T19:06:45.123456789Z stdout F the line
//
// F is a whole line; P is the beginning of one whose rest follows, by the next
// entry of the same stream. What comes without a newline is written at once, as P,
// so that a prompt is seen when it is asked.
//
// A [Writer] bounds the log: a file that has grown to its size is renamed to a name
// ending in ".1" in place of the one before, and a new one is begun. A disk that is
// full costs entries, which are counted and told of once there is room; it never
// stops the container.
//
// A [Reader] reads the old file and the new one, from the beginning or the last
// lines, and follows by inotify(7) until it is told that no more will come. It
// reads files alone: a slow reader holds nobody up, and is behind by one rotation
// at most before it misses entries, which it says.
package logs
