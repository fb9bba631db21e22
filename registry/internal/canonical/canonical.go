// Package canonical encodes and decodes the one JSON form that this project
// signs and hashes.
//
// The form is a Go struct's: members in the order of its fields, no white
// space, nothing added, nothing missing. Strings are escaped as RFC 8785
// 3.2.2.2 does it, numbers are whole and at most 2^53-1, bytes are base64url
// without padding, instants are RFC 3339 in UTC with whole seconds.
//
// [Unmarshal] accepts what [Marshal] writes and nothing else: it reads the
// bytes itself, so that no lenient JSON reader ever sees them. Between values it
// demands the very bytes that Marshal writes there, and each value must re-encode
// to its own text, so whatever passes re-encodes to the input. It is no JSON
// library: it knows the few types that are listed at [Marshal], and no maps.
package canonical

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// MaxNumber is the largest number of the form (RFC 7493 2.2).
const MaxNumber = 1<<53 - 1

// maxElements bounds every list, so that short elements cannot blow up memory.
const maxElements = 10000

const timeLayout = "2006-01-02T15:04:05Z"

// ErrNotCanonical says that the bytes are not what Marshal writes.
var ErrNotCanonical = errors.New("not canonical")

var (
	b64      = base64.RawURLEncoding.Strict()
	timeType = reflect.TypeFor[time.Time]()
)

// Marshal encodes v: a struct (or pointer to one) of strings, booleans,
// unsigned integers, []byte, [N]byte, time.Time, slices, structs and pointers
// to structs. A field's name is its json tag's; with omitzero an empty value is
// left out. Another type is a programming error and panics.
func Marshal(v any) []byte { return encode(nil, reflect.ValueOf(v)) }

func encode(b []byte, v reflect.Value) []byte {
	if v.Type() == timeType {
		b = append(b, '"')
		b = v.Interface().(time.Time).UTC().AppendFormat(b, timeLayout)
		return append(b, '"')
	}
	switch v.Kind() {
	case reflect.Pointer:
		return encode(b, v.Elem())
	case reflect.String:
		return encodeString(b, v.String())
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b = append(b, '"')
			b = b64.AppendEncode(b, bytesOf(v))
			return append(b, '"')
		}
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = encode(b, v.Index(i))
		}
		return append(b, ']')
	case reflect.Struct:
		b = append(b, '{')
		first := true
		for i, m := range membersOf(v.Type()) {
			if m.omit && empty(v.Field(i)) {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(b, m.opening...)
			b = encode(b, v.Field(i))
		}
		return append(b, '}')
	}
	panic("canonical: unsupported type " + v.Type().String())
}

func bytesOf(v reflect.Value) []byte {
	if v.Kind() == reflect.Slice || v.CanAddr() {
		return v.Bytes()
	}
	c := make([]byte, v.Len())
	reflect.Copy(reflect.ValueOf(c), v)
	return c
}

// member is a struct field: its opening is `"name":`.
type member struct {
	opening string
	omit    bool
}

// layouts caches membersOf by type; reading tags costs more than a member.
var layouts sync.Map

func membersOf(t reflect.Type) []member {
	if cached, ok := layouts.Load(t); ok {
		return cached.([]member)
	}
	members := make([]member, t.NumField())
	for i := range members {
		name, option, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" {
			panic("canonical: field without a name in " + t.String())
		}
		members[i] = member{`"` + name + `":`, option == "omitzero"}
	}
	layouts.Store(t, members)
	return members
}

// empty is reflect's IsZero, but an empty slice counts as none.
func empty(v reflect.Value) bool {
	switch {
	case v.Kind() == reflect.Slice:
		return v.Len() == 0
	case v.Type() == timeType:
		return v.Interface().(time.Time).IsZero()
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if !empty(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

func encodeString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= 0x20:
			b = append(b, c)
		case strings.IndexByte(short, c) >= 0:
			b = append(b, '\\', letters[strings.IndexByte(short, c)])
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	return append(b, '"')
}

// The control characters that have a short escape, and its letter.
const (
	short   = "\b\t\n\f\r"
	letters = "btnfr"
)

// Unmarshal decodes b into v, a pointer to a struct of the kind that Marshal
// takes. Any difference to what Marshal writes is an error that wraps
// [ErrNotCanonical]; v is then unspecified. Decoded bytes are copies.
func Unmarshal(b []byte, v any) error {
	d := decoder{in: b}
	target := reflect.ValueOf(v).Elem()
	target.SetZero()
	if !d.value(target) || d.pos != len(b) {
		return fmt.Errorf("%w: byte %d of %d", ErrNotCanonical, d.pos, len(b))
	}
	return nil
}

type decoder struct {
	in  []byte
	pos int
}

func (d *decoder) literal(s string) bool {
	if !bytes.HasPrefix(d.in[d.pos:], []byte(s)) {
		return false
	}
	d.pos += len(s)
	return true
}

func (d *decoder) value(v reflect.Value) bool {
	if v.Type() == timeType {
		s, ok := d.text()
		if !ok {
			return false
		}
		t, err := time.Parse(timeLayout, s)
		v.Set(reflect.ValueOf(t))
		return err == nil && t.Format(timeLayout) == s
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(v.Elem())
	case reflect.String:
		s, ok := d.text()
		v.SetString(s)
		return ok
	case reflect.Bool:
		v.SetBool(d.literal("true"))
		return v.Bool() || d.literal("false")
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return d.number(v)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return d.bytes(v)
		}
		return d.list(v)
	case reflect.Struct:
		return d.object(v)
	}
	panic("canonical: unsupported type " + v.Type().String())
}

func (d *decoder) object(v reflect.Value) bool {
	if !d.literal("{") {
		return false
	}
	first := true
	for i, m := range membersOf(v.Type()) {
		start := d.pos
		if (!first && !d.literal(",")) || !d.literal(m.opening) {
			if m.omit {
				d.pos = start
				continue
			}
			return false
		}
		first = false
		if !d.value(v.Field(i)) || m.omit && empty(v.Field(i)) {
			return false
		}
	}
	return d.literal("}")
}

func (d *decoder) list(v reflect.Value) bool {
	if v.Kind() != reflect.Slice || !d.literal("[") {
		return false
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	if d.literal("]") {
		return true
	}
	for v.Len() < maxElements {
		element := reflect.New(v.Type().Elem()).Elem()
		if !d.value(element) {
			return false
		}
		v.Set(reflect.Append(v, element))
		if d.literal("]") {
			return true
		}
		if !d.literal(",") {
			return false
		}
	}
	return false
}

func (d *decoder) number(v reflect.Value) bool {
	n := 0
	for rest := d.in[d.pos:]; n < len(rest) && n < 17 && rest[n] >= '0' && rest[n] <= '9'; {
		n++
	}
	digits := string(d.in[d.pos : d.pos+n])
	u, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || u > MaxNumber || v.OverflowUint(u) || n > 1 && digits[0] == '0' {
		return false
	}
	d.pos += n
	v.SetUint(u)
	return true
}

// raw is a string's inside, which may hold escapes.
func (d *decoder) raw() (inside []byte, escaped, ok bool) {
	if !d.literal(`"`) {
		return nil, false, false
	}
	for i, rest := 0, d.in[d.pos:]; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			d.pos += i + 1
			return rest[:i], escaped, true
		case c < 0x20:
			return nil, false, false
		case c == '\\':
			escaped = true
			i++
		}
	}
	return nil, false, false
}

func (d *decoder) bytes(v reflect.Value) bool {
	if !d.literal(`"`) {
		return false
	}
	n := bytes.IndexByte(d.in[d.pos:], '"')
	if n < 0 {
		return false
	}
	out := make([]byte, b64.DecodedLen(n))
	m, err := b64.Decode(out, d.in[d.pos:d.pos+n])
	if err != nil || b64.EncodedLen(m) != n { // encoding/base64 skips line breaks
		return false
	}
	d.pos += n + 1
	if v.Kind() == reflect.Slice {
		v.SetBytes(out[:m])
		return true
	}
	if m != v.Len() {
		return false
	}
	reflect.Copy(v, reflect.ValueOf(out[:m]))
	return true
}

func (d *decoder) text() (string, bool) {
	inside, escaped, ok := d.raw()
	if !ok || !utf8.Valid(inside) {
		return "", false
	}
	if !escaped {
		return string(inside), true
	}
	var out []byte
	for i := 0; i < len(inside); i++ {
		c := inside[i]
		if c != '\\' {
			out = append(out, c)
			continue
		}
		i++
		switch c = inside[i]; {
		case c == '"' || c == '\\':
			out = append(out, c)
		case strings.IndexByte(letters, c) >= 0:
			out = append(out, short[strings.IndexByte(letters, c)])
		case c == 'u' && i+4 < len(inside):
			u, err := strconv.ParseUint(string(inside[i+1:i+5]), 16, 8)
			if err != nil || u >= 0x20 {
				return "", false
			}
			out = append(out, byte(u))
			i += 4
		default:
			return "", false
		}
	}
	again := encodeString(make([]byte, 0, len(inside)+2), string(out))
	return string(out), bytes.Equal(again[1:len(again)-1], inside)
}
