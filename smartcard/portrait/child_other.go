//go:build !linux

package portrait

import (
	"context"
	"fmt"
)

// Confined reports whether children are cut off from files and network.
func Confined() bool { return false }

// run needs memory files and limits of Linux.
func run(context.Context, child, int64) ([]byte, error) {
	return nil, fmt.Errorf("%w: only Linux can contain it", ErrNoDecoder)
}
