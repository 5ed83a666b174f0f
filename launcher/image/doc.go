// SPDX-License-Identifier: Apache-2.0

// Package image brings images from registries and archives into a store.
//
// # Where images come from
//
//	NAME, docker://NAME     a registry, by the OCI distribution protocol ([Registry])
//	oci:DIR                 an OCI layout
//	oci-archive:FILE        the same as a tar archive
//	docker-archive:FILE     what `docker save` and `podman save` write
//	containers-storage:NAME what Podman, Buildah and CRI-O keep (package tarsplit)
//
// Each yields an [Image]: its names, its manifest and configuration, which are small
// and verified already, and for each layer a [store.Source] that can be opened. [Add]
// has the store unpack those that it does not have, some at the same time, and then
// records the image and its names, in this order: what has a name is complete.
//
// # Trust
//
// Whoever serves or made an image may be hostile. Manifests and configurations are
// bounded in size; a manifest that is an index as well is refused; digests are of
// sha256 and verified where they are used; the places that a manifest names for its
// layers (urls) are not asked, only the registry itself and where that sends us, ten
// times at most and without its credentials. Only registries on this machine are asked
// without encryption. The images of an archive are bounded in what their lists can have
// read over and over (maxDocuments, maxNames). Layers are parsed by the
// store's stage, and verified against both digests that the image gives them. What
// breaks off in the middle is taken up there (Range of HTTP).
//
// # Credentials
//
// They are read from the files of Podman and Docker, and never written ([Auth]).
package image
