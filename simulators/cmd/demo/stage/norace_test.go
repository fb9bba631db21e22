//go:build !race

package stage_test

import "time"

// stride of a puller: every command has its turn.
const stride = 1

// moment is longer than anything takes that works.
const moment = 2 * time.Second
