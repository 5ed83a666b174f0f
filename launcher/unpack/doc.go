// SPDX-License-Identifier: Apache-2.0

// Package unpack makes directories of the layers of images, and layers of those.
//
// # Where it runs
//
// [Layer] runs as root of a user namespace in which the ids of the image are mapped,
// so that files get their owners. What it reads comes from whoever made the image,
// who may be hostile; it holds no more rights than to fill one directory, and leaves
// nothing outside of it.
//
// # Data flow
//
//	compressed archive ─► decompress ─► sha256 ─► tar ─┬─► names, links, directories
//	                                                   ├─► small files ─► writers
//	                                                   ├─► large files
//	                                                   └─► headers and padding ─► recipe
//
// Each stage is a goroutine, with a few chunks between them. The reader of the
// archive makes every name itself, in the order of the archive, and opens the file;
// a writer gets only the open file and its content. So entries that replace, link to
// or lie below others need no waiting. Directories get their modes and times last.
//
// # What a layer becomes
//
// A layer of an overlay mounted with userxattr: a whiteout is a character device 0:0
// (which any user namespace may make), an opaque directory has the attribute
// user.overlay.opaque. Blocks of zeros are left out of files. Device nodes are left
// out, as no user namespace may make them, and so are attributes by which overlayfs
// could be led to other files.
//
// A directory that the archive does not tell of, but of something in it, is root's with
// mode 0755, and hides what a lower layer says of it, as overlayfs has it. Tools that
// unpack all layers into one directory keep that; honest archives tell of all.
//
// # Paths
//
// Every path is resolved by openat2(2) with the directory as root, so ".." and
// symbolic links stay within it whatever comes in between. The last element is never
// followed. A name that leads out is an error; other doubtful names are what they
// are in other programs: "a//b" is "a/b", "/a" is "a".
//
// # Recipes
//
// Of the archive, the headers and padding are kept in a compressed file, a recipe,
// and [Rebuild] makes the same archive again out of it and the files. So images can
// be saved bit for bit, and layers can be verified, without the archives on the disk.
// A file that a later entry of the same archive replaced is put aside for that, and a
// directory with all that is in it.
package unpack
