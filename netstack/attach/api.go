// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/portfwd/portapi"
	"github.com/slipway-net/slipway/portfwd/unixhttp"
)

// answerTimeout is how long the loop that carries the traffic may take to answer a
// client's question. It answers in microseconds, or it is stuck.
const answerTimeout = 2 * time.Second

// An API answers questions about a session and changes its published ports, as HTTP
// on a UNIX socket:
//
//	GET    /v1/info      portapi.Info: what the session is, as RootlessKit tells it and more
//	GET    /v1/health    whether the loop answers (503 if not), and how the spliced path is
//	GET    /v1/flows     FlowInfo of every flow
//	GET    /v1/counters  every Counter
//	GET    /v1/metrics   the counters for Prometheus
//	GET    /v1/pcap      the frames of the tap from now on, until the client leaves
//	DELETE /v1/pcap      end that
//	       /v1/ports     see package portapi
//
// The socket is for the owner of the process: see package unixhttp. Make an API with
// Listen and close it before the session.
type API struct {
	session *Session
	server  *unixhttp.Server
	dir     string // of the socket
	capture captureSlot
}

// Listen answers at the socket path; the errors are those of unixhttp.Listen. Run of
// the session may begin later: until then questions about traffic go unanswered.
func Listen(path string, s *Session) (*API, error) {
	a := &API{session: s, dir: filepath.Dir(path)}
	if abs, err := filepath.Abs(a.dir); err == nil {
		a.dir = abs
	}
	mux := new(unixhttp.Mux)
	mux.HandleFunc("GET /v1/info", a.info)
	mux.HandleFunc("GET /v1/health", a.health)
	mux.HandleFunc("GET /v1/flows", a.flows)
	mux.HandleFunc("GET /v1/counters", a.counters)
	mux.HandleFunc("GET /v1/metrics", a.metrics)
	mux.HandleFunc("GET /v1/pcap", a.startCapture)
	mux.HandleFunc("DELETE /v1/pcap", a.stopCapture)
	ports := portapi.New(s.Ports())
	mux.Handle("/v1/ports", ports)
	mux.Handle("/v1/ports/", ports)
	var err error
	a.server, err = unixhttp.Listen(path, unixhttp.Config{Handler: mux, Version: s.cfg.Version, Log: s.log})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Close ends all clients and removes the socket. It may be called again.
func (a *API) Close() error { return a.server.Close() }

// flows answers with what is under way.
func (a *API) flows(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	flows := a.session.Flows(ctx)
	if ctx.Err() != nil {
		unixhttp.Fail(w, http.StatusServiceUnavailable, silent)
		return
	}
	if flows == nil {
		flows = []netstack.FlowInfo{}
	}
	unixhttp.Reply(w, http.StatusOK, flows)
}

func (a *API) counters(w http.ResponseWriter, r *http.Request) {
	unixhttp.Reply(w, http.StatusOK, a.session.Counters())
}
