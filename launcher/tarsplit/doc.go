// SPDX-License-Identifier: Apache-2.0

// Package tarsplit makes the archives of layers again out of the files that Podman,
// Buildah and CRI-O keep of them, without changing those.
//
// # What there is
//
// Those programs (github.com/containers/storage) keep a layer unpacked, and besides a
// list of the pieces of its archive that are not content: headers and padding, in the
// form of github.com/vbatts/tar-split. Both together are the archive, bit for bit, so
// its digest can be verified as that of any other blob.
//
// # Where it runs
//
// Files of other owners can be read only where their ids are mapped. [Open] starts this
// binary again (userns.Command) with the ids of the store, which are those that Podman
// takes for the same user; the stage writes the archive to a pipe. It has no network,
// no rights beyond those ids, and opens files only below the layer's directory
// (RESOLVE_IN_ROOT of openat2(2)), whatever names the list has.
//
// # Limits
//
// Pieces are read one at a time, and none may be longer than maxPiece. How much comes
// of them in all is for the reader to bound, who ends the stage by Close.
package tarsplit
