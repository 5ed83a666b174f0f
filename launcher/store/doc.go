// SPDX-License-Identifier: Apache-2.0

// Package store keeps images on the disk: unpacked layers that overlayfs can mount,
// and what containers of them need.
//
// # Layout
//
//	version                  of this layout
//	blobs/HEX                manifests and configurations, by digest
//	layers/HEX-KEY/          a layer by the digest of its archive, for one mapping
//	    fs/                  its files, a lower directory
//	    recipe, aside/       what the archive can be made of again (unpack.Rebuild)
//	    meta.json            a Layer
//	    durable              an empty file, see Crashes
//	images/HEX.json          an Image, by the digest of its configuration
//	       HEX.durable       an empty file
//	refs/HASH.json           a Ref: a name, and the image it is of
//	shifted/HEX-KEY-KIND/    an image with other owners ([Store.Lowers])
//	writable/NAME/           a Writable: the layer that a container writes to, and by
//	                         which driver it is mounted
//	spare/NAME/              what of a Writable the next one can have
//	ground/                  a layer below all others: what every container has mounts at
//	tmp/                     what is being made
//	trash/                   what is being removed
//	locks/                   empty files
//
// A layer's name is its own digest, not that of those below it: one layer serves at
// any place of any image. KEY stands for the mapping of ids under which its files
// have their owners.
//
// # Crashes
//
// Nothing is changed in place. A file is written in tmp and renamed; a layer is
// unpacked there under the name it will have, verified, and renamed. Blobs and layers
// come first, then the image, then its name. So whenever a process stops, the store is
// what it was before or after a step, and what is left in tmp is found by the next who
// wants the same layer, or by GC.
//
// If the whole machine stops, files may be missing or empty that were not on the disk
// yet. A pull does not wait for the disk, which can take longer than the pull itself.
// Instead, layers and images carry the id of the boot that wrote them. In another boot
// they are read through before they are used ([Store.Check]): the archive is made
// again and must have the layer's digest. What is marked "durable" need not be: it has
// been read so, or [Store.Settle] found it on the disk later in its own boot.
//
// # Locks
//
// All are flock(2), which the kernel gives up for a process that ends. There is no
// database, and no lock that all commands share:
//
//	locks/HEX-KEY      exclusive by who unpacks the layer; others wait, and find it
//	locks/gc           shared by pulls, which have layers that no image has yet;
//	                   exclusive by GC
//	writable/NAME/lock exclusive by the container whose layer it is; so is that of a spare
//	                   one by who makes it, or takes it
//	images/HEX.json    shared by a container for as long as it runs; exclusive by who
//	                   removes the image
//
// # The stage
//
// Files of other owners can be handled only where their ids are mapped. For that the
// store starts this binary again (userns.Command), without a network, and asks it by
// messages on a SOCK_SEQPACKET socket; a descriptor with a message is a blob to read.
// What is hostile in an image is decompressed and parsed there. The blob's own digest
// is verified on this side, as is every answer.
package store
