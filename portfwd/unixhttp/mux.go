// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"fmt"
	"net/http"
)

// A Mux is a ServeMux that tells in JSON, too, what it does not know: 404 names the
// path, 405 the method and those that there are. The zero Mux is ready.
type Mux struct{ http.ServeMux }

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, pattern := m.Handler(r)
	if pattern != "" {
		m.ServeMux.ServeHTTP(w, r)
		return
	}
	v := opinion{header: http.Header{}}
	h.ServeHTTP(&v, r)
	if v.status != http.StatusMethodNotAllowed {
		Fail(w, http.StatusNotFound, fmt.Sprintf("there is no %s", r.URL.Path))
		return
	}
	allow := v.header.Get("Allow")
	w.Header().Set("Allow", allow)
	Fail(w, v.status, fmt.Sprintf("%s is not for %s: use %s", r.URL.Path, r.Method, allow))
}

// An opinion is what ServeMux has to say by itself.
type opinion struct {
	header http.Header
	status int
}

// Header implements http.ResponseWriter.
func (v *opinion) Header() http.Header { return v.header }

// WriteHeader implements http.ResponseWriter.
func (v *opinion) WriteHeader(status int) { v.status = status }

// Write implements http.ResponseWriter.
func (v *opinion) Write(b []byte) (int, error) { return len(b), nil }
