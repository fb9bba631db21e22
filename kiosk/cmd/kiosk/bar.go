package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"enrollkiosk/smartcard/inspection"
)

// bar shows on a terminal how far an inspection is, and erases itself.
type bar struct {
	out   io.Writer // nil: no terminal
	width int       // of what stands there now
}

func newBar(out io.Writer) *bar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		out = nil
	}
	return &bar{out: out}
}

var stepWords = map[inspection.Step]string{inspection.Open: "opening", inspection.Prove: "asking the chip for its key",
	inspection.Files: "reading", inspection.Verify: "verifying"}

func (b *bar) show(p inspection.Progress) {
	if b.out == nil {
		return
	}
	const cells = 24
	line := fmt.Sprintf("\r%-*s %s", cells+2, "", stepWords[p.Step])
	if p.Total > 0 {
		done := min(p.Done, p.Total)
		line = fmt.Sprintf("\r[%-*s] %s %3d %%", cells, strings.Repeat("#", cells*done/p.Total), stepWords[p.Step], 100*done/p.Total)
	}
	fmt.Fprintf(b.out, "%-*s", b.width, line)
	b.width = max(b.width, len(line))
}

func (b *bar) clear() {
	if b.width > 0 {
		fmt.Fprintf(b.out, "\r%*s\r", b.width, "")
	}
}
