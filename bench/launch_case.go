// SPDX-License-Identifier: Apache-2.0

package main

import "context"

// A launchCase is one of a container engine.
type launchCase interface {
	Case
	// launch measures the step's subject once, as networkCase's run does.
	launch(ctx context.Context, y *yard, s step) (values map[string]float64, detail any, err error)
}

// launchCases returns every case of container engines in the order in which they run
// and are shown.
func launchCases() []Case {
	return []Case{launchStart{}, launchStart{network: true}, launchPull{}, launchKeepID{}}
}
