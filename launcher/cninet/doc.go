// SPDX-License-Identifier: Apache-2.0

// Package cninet gives a container the network of a CNI configuration
// (https://www.cni.dev/docs/spec, 1.1.0 and before), by whatever plugins it names.
//
// # Namespaces
//
// A plugin works on two network namespaces: its own, which is the way out, and the
// container's, which it has to have rights in. For an unprivileged user no process of the
// host has such rights. So plugins are run by a stage (package userns) in the container's
// user namespace, with every capability there, that has stayed in the host's network and
// mount namespaces:
//
//	caller                         stage                        plugin
//	userns.Command           ───►  make the network namespace
//	request                  ───►  libcni, ADD            ───►  lives for a moment
//	open both namespaces     ◄───  result
//	request ends             ───►  ends
//	start the container in both namespaces (launcher.Joined)
//
// At the end another stage joins the user namespace, and does DEL. The namespaces live for
// as long as the container or the Attachment does. Root needs no stage to run plugins: it
// has its rights on both sides. For a plain user a plugin that needs rights on the host
// itself, as bridge does, fails, and its error is told; files that one writes are the
// caller's, so that host-local wants a dataDir where the caller may write.
//
// # State
//
// Each attachment has a directory with all that DEL needs, and the cache of libcni:
//
//	STATE/                        locked while an attachment begins or is looked for
//	STATE/<id>/                   locked for as long as its owner lives
//	STATE/<id>/attachment.json    the request
//	STATE/<id>/results/           libcni's
//
// One that nobody has locked is of an owner that was killed. Its namespaces are gone;
// Sweep does DEL without them, in a new user namespace with the same ids, and removes it.
//
// All that plugins print is read with a bound, and none of it is believed to be one line
// or an address before it is looked at. There are no goroutines that outlive a call. An
// Attachment is not for concurrent use, Sweep is.
package cninet
