// SPDX-License-Identifier: Apache-2.0

//go:build slipway_stage

package stagefile

import _ "embed"

// binary is the init stage's, as make has built it.
//
//go:embed initstage
var binary string
