//go:build race

package stage_test

import "time"

// stride of a puller: the race detector makes cryptography so slow that not
// every command has its turn.
const stride = 5

// moment is longer than anything takes that works.
const moment = 5 * time.Second
