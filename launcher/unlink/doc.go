// SPDX-License-Identifier: Apache-2.0

// Package unlink removes trees of files that containers and images have made.
//
// Who made them is hostile: a tree may be deeper than there are descriptors, longer than a
// path may be, and change while it is removed. So nothing is looked up by more than one
// name below an open directory, no symbolic link is followed, only so many directories are
// open at a time, and what lies deeper is moved to the top and removed in another round.
// Another process may remove the same tree.
//
// The caller must be able to write each directory: root of a user namespace that has the
// ids of all owners, as the store's stage and a container's sweeper are. The package is
// linked into the init stage, and so uses little.
package unlink
