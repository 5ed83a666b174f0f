// SPDX-License-Identifier: Apache-2.0

// Command slipway-cni is a CNI plugin (version 1.1.0 of the specification, and back to
// 0.4.0): it gives a container's network namespace a network that is carried by a
// process of slipway's, `slipway attach`, without a bridge, without iptables and without
// root.
//
// Each command is a process that lives for milliseconds. So nothing of the network stack
// is linked here, and each attachment has a helper of its own, which is started by ADD
// and outlives it.
//
// # ADD
//
// The configuration is read (package netconf), the attachment's entry in the state
// directory made and locked (package store), addresses are asked for where a plugin for
// addresses has the say, and a helper is started (package helper), which makes the
// interface. When it says that the network is up, the result is printed. What fails on
// the way undoes what came before it. A plugin that is killed on the way leaves at most
// a record, a lease, and a helper that ends with its namespace: DEL, GC and the next ADD
// remove them.
//
// # DEL
//
// The helper is found by the lock of its pidfile and stopped, and its interface is gone
// with it. The container's namespace is not needed, and never entered: the path may lead
// to another one by now.
//
// # The end of a container
//
// Some runtimes never call DEL. A helper ends by itself when its namespace is gone, and
// the next ADD for the same network removes what is left in the state directory.
package main
