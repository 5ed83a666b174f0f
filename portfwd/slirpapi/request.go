// SPDX-License-Identifier: Apache-2.0

package slirpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/netip"
)

// Errors of a request that is none, as slirp4netns words them.
var (
	errParse    = errors.New("bad request: cannot parse JSON")
	errObject   = errors.New("bad request: json_object() failed")
	errExecute  = errors.New("bad request: no execute found")
	errUnknown  = errors.New("bad request: unknown execute")
	errTooLarge = errors.New("bad request: too large message")
)

// A request is one that could be read; what it asks for may not exist.
type request struct {
	execute   string
	arguments arguments
}

// arguments are members of a JSON object that have not been looked at.
type arguments map[string]json.RawMessage

// readRequest reads the JSON value at the start of r, as far as it must.
func readRequest(r io.Reader) (request, error) {
	raw, err := readValue(r)
	if err != nil {
		return request{}, err
	}
	var members arguments
	// null is no object, but is no error to Unmarshal either.
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return request{}, errObject
	}
	var req request
	var ok bool
	if req.execute, ok = members.text("execute"); !ok {
		return request{}, errExecute
	}
	// What is no object has no members, which is for the command to complain about.
	_ = json.Unmarshal(members["arguments"], &req.arguments)
	return req, nil
}

// readValue reads until there is a JSON value, whatever comes behind it.
func readValue(r io.Reader) (raw json.RawMessage, err error) {
	buf := make([]byte, MaxRequest)
	for have := 0; ; {
		n, failed := r.Read(buf[have:])
		if have += n; have == MaxRequest {
			return nil, errTooLarge // what fills the buffer may not be all
		}
		err = json.NewDecoder(bytes.NewReader(buf[:have])).Decode(&raw)
		switch {
		case err == nil:
			return raw, nil
		case failed != nil, err != io.EOF && err != io.ErrUnexpectedEOF:
			return nil, errParse
		}
	}
}

// text returns a member that is a string.
func (a arguments) text(name string) (string, bool) {
	var s *string
	if json.Unmarshal(a[name], &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// integer returns a member that is a whole number between least and most.
func (a arguments) integer(name string, least, most int) (int, bool) {
	var f *float64
	if json.Unmarshal(a[name], &f) != nil || f == nil {
		return 0, false
	}
	if *f != math.Trunc(*f) || *f < float64(least) || *f > float64(most) {
		return 0, false
	}
	return int(*f), true
}

// addr returns a member that is an IP address. One that is not there, is null or is
// empty is the zero Addr.
func (a arguments) addr(name string) (netip.Addr, bool) {
	raw, has := a[name]
	if !has || string(raw) == "null" {
		return netip.Addr{}, true
	}
	s, ok := a.text(name)
	if !ok || s == "" {
		return netip.Addr{}, ok
	}
	addr, err := netip.ParseAddr(s)
	return addr, err == nil && addr.Zone() == "" && !addr.Is4In6()
}
