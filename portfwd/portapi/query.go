// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
)

// A removal is what the query of a DELETE asks for.
type removal struct {
	ids   []int
	rules []string
	cut   bool
}

// parseRemoval reads the query of a DELETE. Where the path names the port, the query
// can name none.
func parseRemoval(raw string, inPath bool) (removal, error) {
	var d removal
	query, err := url.ParseQuery(raw)
	if err != nil {
		return d, fmt.Errorf("the query cannot be read: %w", err)
	}
	for key, values := range query {
		switch {
		case key == "cut":
			if d.cut, err = strconv.ParseBool(values[len(values)-1]); err != nil {
				return d, fmt.Errorf("cut=%s: want true or false", values[len(values)-1])
			}
		case key == "rule" && !inPath:
			d.rules = slices.Clone(values)
		case key == "id" && !inPath:
			for _, v := range values {
				id, err := parseID(v)
				if err != nil {
					return d, err
				}
				d.ids = append(d.ids, id)
			}
		default:
			return d, fmt.Errorf("unknown parameter %q", key)
		}
	}
	if !inPath && len(d.ids)+len(d.rules) == 0 {
		return d, errors.New("name the ports to remove, as in /v1/ports?id=1&id=2 or /v1/ports?rule=8080:80")
	}
	return d, nil
}

func parseID(s string) (int, error) {
	id, err := strconv.Atoi(s)
	if err != nil || id < 1 {
		return 0, fmt.Errorf("ID %q: want a whole number from 1", s)
	}
	return id, nil
}
