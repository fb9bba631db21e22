// Package tomlfile reads configuration: one strict TOML file, in which an
// unknown key is an error that names its line.
package tomlfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Error is a mistake in a file.
type Error struct {
	File string
	Line int // 0 when the mistake has no line of its own
	Err  error
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.File, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Load reads file into v, a pointer to a struct. Every error is an *Error.
func Load(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return &Error{File: file, Err: err}
	}
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if err == nil {
		return nil
	}
	e := &Error{File: file, Err: err}
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		first := strict.Errors[0]
		e.Line, _ = first.Position()
		e.Err = fmt.Errorf("unknown key %q", strings.Join(first.Key(), "."))
	case errors.As(err, &decode):
		e.Line, _ = decode.Position()
	}
	return e
}

// Mistake is an *Error about file as a whole.
func Mistake(file, format string, a ...any) error {
	return &Error{File: file, Err: fmt.Errorf(format, a...)}
}

// In makes the paths in a file relative to its directory; empty ones stay so.
func In(file string, paths ...*string) {
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(file), *p)
		}
	}
}
