// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// registryPatience bounds the wait for a request's head: nobody else is on the loopback
// to wait for.
const registryPatience = 10 * time.Second

// registryName is the image's name in the registry.
const registryName = "bench"

// A registry serves one image on the loopback by the part of the distribution
// specification that a pull needs (opencontainers/distribution-spec, "Pull").
type registry struct {
	server *http.Server
	addr   string
}

// startRegistry serves the image with the manifest from an OCI layout. Close ends it.
func startRegistry(layout, name string, manifest digest.Digest) (*registry, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a registry: %w", err)
	}
	blobs := filepath.Join(layout, v1.ImageBlobsDir, string(digest.SHA256))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/"+name+"/manifests/{ref}", func(w http.ResponseWriter, q *http.Request) {
		if ref := q.PathValue("ref"); ref != "latest" && ref != manifest.String() {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("Content-Type", v1.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", manifest.String())
		serveBlob(w, q, blobs, manifest)
	})
	mux.HandleFunc("GET /v2/"+name+"/blobs/{digest}", func(w http.ResponseWriter, q *http.Request) {
		d, err := digest.Parse(q.PathValue("digest"))
		if err != nil || d.Algorithm() != digest.SHA256 {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Docker-Content-Digest", d.String())
		serveBlob(w, q, blobs, d)
	})
	r := &registry{addr: l.Addr().String(), server: &http.Server{Handler: mux, ReadHeaderTimeout: registryPatience}}
	go func() { _ = r.server.Serve(l) }() // ends with ErrServerClosed
	return r, nil
}

// serveBlob answers with a blob, or a part of it.
func serveBlob(w http.ResponseWriter, q *http.Request, blobs string, d digest.Digest) {
	f, err := os.Open(filepath.Join(blobs, d.Encoded()))
	if errors.Is(err, os.ErrNotExist) {
		http.NotFound(w, q)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	http.ServeContent(w, q, "", imageTime, f)
}

// close ends the registry and its connections.
func (r *registry) close() error { return r.server.Close() }
