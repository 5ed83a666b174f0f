// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// isOwner reports whether the user may ask: root, the user as whom we run, or the
// one who started us, which is the real user id.
//
// All ids are those of our own user namespace. Users without one there all show as
// the kernel's overflow id, which is nobody's to pass for: the host's root is not
// known to a helper in a namespace of its own, and has other ways in.
func isOwner(uid uint32) bool {
	return uid == 0 || uid == uint32(os.Geteuid()) || uid == uint32(os.Getuid())
}

// verdictKey is where the context of a request has what is to be said against who
// connected; nothing, for an owner.
type verdictKey struct{}

// judge returns the context of a connection, with what is to be said against it.
func judge(ctx context.Context, c net.Conn, allowed func(uid uint32) bool) context.Context {
	uid, err := peer(c)
	if err == nil && !allowed(uid) {
		err = fmt.Errorf("user %d may not use this socket: only user %d and root may", uid, os.Geteuid())
	}
	if err != nil {
		ctx = context.WithValue(ctx, verdictKey{}, err)
	}
	return ctx
}

// ownersOnly is the handler for owners; to others it says that they are none.
func ownersOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err, ok := r.Context().Value(verdictKey{}).(error); ok {
			Fail(w, http.StatusForbidden, err.Error())
			return
		}
		h.ServeHTTP(w, r)
	})
}

// peer returns the user who connected (SO_PEERCRED).
func peer(c net.Conn) (uint32, error) {
	if s, ok := c.(*slotConn); ok {
		c = s.Conn
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("who is at the other end of a %T cannot be told", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	return cred.Uid, nil
}
