//go:build !linux

package parcel

import "os"

// forget does nothing: the read back may come from memory here.
func forget(*os.File) error { return nil }
