// SPDX-License-Identifier: Apache-2.0

// Package slirp4netns speaks the command line of slirp4netns(1): it reads one, says
// what that program would say, and turns it into the configuration of a session.
//
// # Theory of operation
//
// Podman, Buildah, RootlessKit and the scripts around Docker start slirp4netns by
// that command line, look for option names in its help, and wait for one byte on a
// descriptor. This package is what they meet in its place.
//
//	arguments ── Parse ──> Options ── Options.Resolve ──> Attachment ──> attach.New
//
// Parse is getopt_long(3) and the checks that slirp4netns makes while it reads:
// what they refuse is answered with the whole usage. Resolve looks at the host and
// at values that mean something only together: what it refuses is one message.
// Neither writes anything. Options.Warnings and Options.Banner are what goes to
// standard output, Error what goes to standard error.
//
// The words are slirp4netns' where programs may look for them: option names, error
// messages, keys of the version, warnings. The help is our own. Where what happens
// is meant to differ, docs/compat.md has the list.
package slirp4netns
