// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/portfwd/unixhttp"
)

// actTimeout bounds how long a change may take that is under way: it waits for the
// loop that carries the traffic.
const actTimeout = 10 * time.Second

// A Table has the ports that are published; portfwd.Table is one. It is used by many
// goroutines at once.
type Table interface {
	// Add publishes all of the rules or none, and returns the ports in the order of
	// the rules, each rule's in ascending order.
	Add(ctx context.Context, rules []portfwd.Rule) ([]portfwd.Port, error)
	// Remove withdraws all of the ports or none, and with cut their connections too.
	Remove(ctx context.Context, ids []int, cut bool) error
	// Ports returns what is published, in the order of their IDs.
	Ports() []portfwd.Port
}

// A Handler serves /v1/ports and what is below. Make one with New.
type Handler struct {
	table Table
	mux   unixhttp.Mux

	mu    sync.Mutex
	specs map[int]*Spec // how ports were asked for, by ID
}

// New returns a handler for the table.
func New(t Table) *Handler {
	h := &Handler{table: t, specs: make(map[int]*Spec)}
	h.mux.HandleFunc("GET /v1/ports", h.list)
	h.mux.HandleFunc("POST /v1/ports", h.add)
	h.mux.HandleFunc("DELETE /v1/ports", h.removeSome)
	h.mux.HandleFunc("GET /v1/ports/{id}", h.get)
	h.mux.HandleFunc("DELETE /v1/ports/{id}", h.removeOne)
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// ports returns what is published, and forgets how those were asked for that are
// not any more.
func (h *Handler) ports() []Port {
	h.mu.Lock()
	defer h.mu.Unlock()
	live := make(map[int]*Spec)
	list := []Port{} // never null
	for _, p := range h.table.Ports() {
		spec := h.specs[p.ID]
		if spec != nil {
			live[p.ID] = spec
		}
		list = append(list, portOf(p, spec))
	}
	h.specs = live
	return list
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	unixhttp.Reply(w, http.StatusOK, h.ports())
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	for _, p := range h.ports() {
		if p.ID == id {
			unixhttp.Reply(w, http.StatusOK, p)
			return
		}
	}
	fail(w, fmt.Errorf("port with the ID %d: %w", id, portfwd.ErrNoPort))
}

func (h *Handler) add(w http.ResponseWriter, r *http.Request) {
	if !isJSON(r.Header.Get("Content-Type")) {
		unixhttp.Fail(w, http.StatusUnsupportedMediaType,
			fmt.Sprintf("the request's body is %s: want application/json", r.Header.Get("Content-Type")))
		return
	}
	body, ok := unixhttp.ReadBody(w, r)
	if !ok {
		return
	}
	q, err := parseRequest(body)
	if err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := act(r)
	defer cancel()
	added, err := h.table.Add(ctx, q.rules)
	if err != nil {
		fail(w, err)
		return
	}
	ports := h.note(q, added)
	if q.single {
		unixhttp.Reply(w, http.StatusCreated, ports[0])
		return
	}
	unixhttp.Reply(w, http.StatusCreated, ports)
}

// note notes how the ports were asked for, and returns them.
func (h *Handler) note(q request, added []portfwd.Port) []Port {
	h.mu.Lock()
	defer h.mu.Unlock()
	ports := make([]Port, len(added))
	rule, left := 0, q.rules[0].Count
	for i, p := range added {
		if left == 0 {
			rule++
			left = q.rules[rule].Count
		}
		left--
		if spec := q.specs[rule]; spec != nil {
			h.specs[p.ID] = spec
		}
		ports[i] = portOf(p, q.specs[rule])
	}
	return ports
}

func (h *Handler) removeOne(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	d, err := parseRemoval(r.URL.RawQuery, true)
	if err != nil {
		fail(w, err)
		return
	}
	h.remove(w, r, []int{id}, d.cut)
}

func (h *Handler) removeSome(w http.ResponseWriter, r *http.Request) {
	d, err := parseRemoval(r.URL.RawQuery, false)
	if err != nil {
		fail(w, err)
		return
	}
	ports := h.table.Ports()
	for _, word := range d.rules {
		rule, err := portfwd.ParseRule(word)
		if err != nil {
			fail(w, err)
			return
		}
		ids, err := find(rule, ports)
		if err != nil {
			fail(w, err)
			return
		}
		d.ids = append(d.ids, ids...)
	}
	slices.Sort(d.ids)
	h.remove(w, r, slices.Compact(d.ids), d.cut)
}

func (h *Handler) remove(w http.ResponseWriter, r *http.Request, ids []int, cut bool) {
	ctx, cancel := act(r)
	defer cancel()
	if err := h.table.Remove(ctx, ids, cut); err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// act returns the context of a change: it is made even where its client leaves.
func act(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), actTimeout)
}

// fail answers with an error.
func fail(w http.ResponseWriter, err error) {
	unixhttp.FailWith(w, Status(err), unixhttp.Failure{Message: err.Error(), Socket: portfwd.HiddenSocket(err)})
}

// isJSON reports whether a body of the type may be JSON: it says so, or nothing, or
// it is what curl says unless told otherwise.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || kind == "application/x-www-form-urlencoded")
}

// pathID returns the ID in the path of the request.
func pathID(w http.ResponseWriter, r *http.Request) (int, bool) {
	id, err := parseID(r.PathValue("id"))
	if err != nil {
		fail(w, err)
	}
	return id, err == nil
}
