// SPDX-License-Identifier: Apache-2.0

// Package resources tells what containers use: processor time, memory, traffic.
//
// Most users have no control groups of their own to ask, so it adds up processes. A
// process belongs to a container if it is in the pid namespace of the container's
// first process, which holds for what the command has started and for what joined
// it later. All that is needed is in /proc (proc(5)):
//
//	PID/ns/pid          whose it is
//	PID/stat            processor time, of children that were waited for, too
//	PID/smaps_rollup    memory, of which shared pages count in part (Pss)
//	PID/net/dev         traffic of the network namespace, lo left out
//
// A process that ends meanwhile is not counted. One look at /proc serves any number
// of containers.
package resources
