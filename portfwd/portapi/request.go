// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/slipway-net/slipway/portfwd"
)

// A request is the body of a POST.
type request struct {
	rules []portfwd.Rule
	// specs has, for each rule, how it was asked for; nil where that was a string.
	specs []*Spec
	// single means that the body is one Spec, and one Port is the reply.
	single bool
}

// parseRequest reads the body of a POST, which is hostile.
func parseRequest(body []byte) (request, error) {
	var raw json.RawMessage
	if err := decode(body, &raw); err != nil {
		return request{}, err
	}
	q := request{single: raw[0] == '{'}
	if raw[0] != '[' {
		return q, q.add(raw)
	}
	var list []json.RawMessage
	if err := decode(raw, &list); err != nil {
		return request{}, err
	}
	if len(list) == 0 {
		return request{}, errors.New("the request has no rule")
	}
	for i, raw := range list {
		if err := q.add(raw); err != nil {
			return request{}, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return q, nil
}

// add adds a rule, which is a string or a Spec.
func (q *request) add(raw json.RawMessage) error {
	var rule portfwd.Rule
	var spec *Spec
	var err error
	switch raw[0] {
	case '"':
		var s string
		if err := decode(raw, &s); err != nil {
			return err
		}
		rule, err = portfwd.ParseRule(s)
	case '{':
		spec = new(Spec)
		if err := decode(raw, spec); err != nil {
			return err
		}
		rule, err = spec.Rule()
	default:
		return errors.New(`want a rule such as "8080:80/tcp", an object such as {"proto":"tcp","parentPort":8080,"childPort":80}, or an array of those`)
	}
	if err != nil {
		return err
	}
	q.rules, q.specs = append(q.rules, rule), append(q.specs, spec)
	return nil
}

// decode decodes one JSON value with nothing behind it, and says in the words of a
// client what is wrong with it.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err := d.Token(); err != io.EOF {
			return errors.New("there is something behind the JSON value")
		}
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: want a %s, not a %s", wrong.Field, kindName(wrong.Type), wrong.Value)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the JSON value has no end")
	}
	return fmt.Errorf("bad JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// kindName names a type of Go as JSON does.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "whole number"
	case reflect.Bool:
		return "true or false"
	default:
		return t.Kind().String()
	}
}
