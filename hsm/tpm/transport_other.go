//go:build !unix && !windows

package tpm

import (
	"fmt"

	"enrollkiosk/hsm"
)

// openDevice knows no devices of this system.
func openDevice(path string) (device, bool, error) {
	return nil, false, fmt.Errorf("open tpm %q: only unix:/path on this system: %w", path, hsm.ErrNoDevice)
}
