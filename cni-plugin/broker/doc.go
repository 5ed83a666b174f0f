// SPDX-License-Identifier: Apache-2.0

// Package broker starts helpers for plugins that sit in a network namespace of their own.
//
// Rootless Podman runs CNI plugins in a network namespace behind another network helper.
// A helper started there would carry everything twice, see no address of a client, and
// reach none of the host's own networks. There is no way back out of that namespace: to
// join the host's takes a right over the host's.
//
// So the user runs a broker outside, where flows are to leave from. Unix sockets with a path
// are of no network namespace: the plugin connects to the broker's, and hands over what a
// helper needs as descriptors: the lock, the log, the pipe to say ready by, and the
// directory of the container's namespace, whose mount the broker does not see. What the
// broker starts is the same helper as ever, which enters the container's namespaces
// from outside as their owner. The plugin finds it and stops it by the state directory,
// which both see: the broker makes sure that it is the same.
//
// A request is one message of a SOCK_SEQPACKET socket, and so is the reply. Only the
// broker's own user may ask, by SO_PEERCRED. The broker holds no privilege and keeps
// nothing; when it ends, helpers run on.
package broker
