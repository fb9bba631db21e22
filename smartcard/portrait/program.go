package portrait

import (
	"context"
	"fmt"
)

// Program is a foreign program that reads bytes on its standard input and
// writes bytes on its standard output. It runs under the same limits and the
// same confinement as the decoder of JPEG 2000, and nothing of it touches a
// disk.
type Program struct {
	Path   string
	Args   []string
	Limits Limits
	// Files are what the program must read beside itself and what is below /usr
	// and /lib: models, tables, licences.
	Files []string
}

// Run returns what the program makes of in, at most maxOutput bytes. It fails
// with ErrDecoder, ErrLimits, ErrNoDecoder or the error of ctx.
func (p Program) Run(ctx context.Context, in []byte, maxOutput int64) ([]byte, error) {
	out, err := run(ctx, child{program: p.Path, args: p.Args, limits: p.Limits, files: p.Files, input: in, output: 1}, maxOutput)
	if err != nil {
		return nil, fmt.Errorf("run decoder: %w", err)
	}
	return out, nil
}

// child is one process to be run.
type child struct {
	program string // path, or a name to search for
	debian  string // package that has it, for the error
	args    []string
	files   []string // to be read beside the system's
	limits  Limits
	input   []byte // descriptor 0
	output  int    // descriptor for the answer: 1 or 3
}
