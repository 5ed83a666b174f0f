// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"os"

	"github.com/slipway-net/slipway/launcher/fuse"
	"github.com/slipway-net/slipway/launcher/userns"
)

// serveRoot has fuse-overlayfs serve the root that the init stage has mounted. It takes
// over the connection, of which the init stage waits for the first answer.
func (r *running) serveRoot(connection int) error {
	root := &r.ct.plan.root
	if connection < 0 || root.Fuse == "" {
		r.kill()
		return errors.New("the init stage sent no connection of the root's file system")
	}
	f := os.NewFile(uintptr(connection), "/dev/fuse")
	defer f.Close()
	ids := r.ct.cfg.IDs
	if ids.IsZero() {
		ids = userns.Mapping{
			UIDs: []userns.Range{{Outside: uint32(os.Geteuid()), Size: 1}},
			GIDs: []userns.Range{{Outside: uint32(os.Getegid()), Size: 1}},
		}
	}
	s, err := fuse.Start(fuse.Config{
		Program: root.Fuse, Connection: f, IDs: ids,
		Lowers: root.Lowers, Upper: root.Upper, Work: root.Work, Volatile: root.Volatile,
	})
	if err != nil {
		r.kill()
		return err
	}
	r.served = true
	r.work.Go(func() { r.rootErr <- s.Wait(r.gone) }) // has room for it
	return nil
}
