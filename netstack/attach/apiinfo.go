// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"slices"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/portfwd/portapi"
	"github.com/slipway-net/slipway/portfwd/unixhttp"
	"github.com/slipway-net/slipway/tap"
)

// silent is what there is to say where the loop does not answer.
const silent = "the loop that carries the traffic does not answer"

// info answers with what the session is.
func (a *API) info(w http.ResponseWriter, r *http.Request) {
	s := a.session
	info := portapi.Info{
		APIVersion: portapi.APIVersion,
		Version:    s.cfg.Version,
		StateDir:   a.dir,
		ChildPID:   s.cfg.Tap.Target.PID,
		NetworkDriver: portapi.NetworkDriver{
			Driver: portapi.DriverName,
		},
		PortDriver: portapi.PortDriver{
			Driver: portapi.DriverName, Protos: portapi.Protos(), DisallowLoopbackChildIP: true,
		},
		PID:       os.Getpid(),
		Path:      s.Path(),
		Interface: s.device.Name(),
		MTU:       s.device.MTU(),
	}
	for i, f := range s.families() {
		n := portapi.Network{CIDR: f.Prefix, Gateway: f.Gateway, Container: f.Container}
		if !s.cfg.NoDNS && f.DNS.IsValid() {
			n.DNS = []netip.Addr{f.DNS}
			info.NetworkDriver.DNS = append(info.NetworkDriver.DNS, f.DNS)
		}
		if i == 0 {
			info.NetworkDriver.ChildIP = f.Container
		}
		info.Plan = append(info.Plan, n)
	}
	unixhttp.Reply(w, http.StatusOK, info)
}

// families are those that the container has: it may have IPv6 switched off.
func (s *Session) families() []tap.Family {
	fs := s.cfg.Tap.Plan.Families()
	if s.device.IPv6Err() != nil {
		fs = slices.DeleteFunc(fs, func(f tap.Family) bool { return f.Prefix.Addr().Is6() })
	}
	return fs
}

// A health is the reply to GET /v1/health.
type health struct {
	// Status is "ok".
	Status string `json:"status"`
	netstack.Health
}

// health answers whether the session carries traffic.
func (a *API) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	h, err := a.session.network.Health(ctx)
	if err != nil {
		unixhttp.Fail(w, http.StatusServiceUnavailable, silent)
		return
	}
	unixhttp.Reply(w, http.StatusOK, health{"ok", h})
}
