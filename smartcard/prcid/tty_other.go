//go:build !linux

package prcid

import "context"

// Open needs Linux: use [New] on a line of your own.
func Open(context.Context, string, Options) (*Module, error) { return nil, ErrUnsupported }
