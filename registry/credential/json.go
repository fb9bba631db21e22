package credential

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Object is a JSON object as [ParseObject] reads it. Its values are Object,
// []any, string, bool, [Number] and nil. Names are compared exactly.
type Object map[string]any

// Number is a JSON number as it is written.
type Number string

// ParseObject reads one JSON object (RFC 8259) and nothing after it. It refuses
// what readers disagree about: a name that stands twice (case aside: a lenient
// reader takes AUD for aud), text that is not UTF-8, a lone surrogate, an object
// or list deeper than depth. White space is taken, since other people's libraries
// write it. Errors wrap [ErrJSON].
func ParseObject(b []byte, depth int) (Object, error) {
	v, err := parse(b, depth)
	if err != nil {
		return nil, err
	}
	o, ok := v.(Object)
	if !ok {
		return nil, refuse(ErrJSON, "no object")
	}
	return o, nil
}

func parse(b []byte, depth int) (any, error) {
	p := parser{in: b}
	p.space()
	v, ok := p.value(depth)
	p.space()
	if !ok || p.pos != len(b) {
		return nil, refuse(ErrJSON, "byte %d of %d", p.pos, len(b))
	}
	return v, nil
}

// Text is the string under name.
func (o Object) Text(name string) (string, bool) { v, ok := o[name].(string); return v, ok }

// Object is the object under name.
func (o Object) Object(name string) (Object, bool) { v, ok := o[name].(Object); return v, ok }

// List is the list under name.
func (o Object) List(name string) ([]any, bool) { v, ok := o[name].([]any); return v, ok }

// Texts is the list under name, if all of it are strings.
func (o Object) Texts(name string) ([]string, bool) {
	list, ok := o.List(name)
	texts := make([]string, len(list))
	for i, v := range list {
		if texts[i], ok = v.(string); !ok {
			return nil, false
		}
	}
	return texts, ok
}

// Whole is the number under name, if it is whole, not negative, written without
// fraction and exponent, and at most 2^53-1.
func (o Object) Whole(name string) (int64, bool) {
	n, ok := o[name].(Number)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(string(n), 10, 64)
	return v, err == nil && v >= 0 && v < 1<<53
}

// maxMembers bounds objects and lists: nothing here needs more.
const maxMembers = 1024

type parser struct {
	in  []byte
	pos int
}

func (p *parser) space() {
	for p.pos < len(p.in) && (p.in[p.pos] == ' ' || p.in[p.pos] == '\t' || p.in[p.pos] == '\n' || p.in[p.pos] == '\r') {
		p.pos++
	}
}

func (p *parser) literal(s string) bool {
	if !bytes.HasPrefix(p.in[p.pos:], []byte(s)) {
		return false
	}
	p.pos += len(s)
	return true
}

func (p *parser) value(depth int) (any, bool) {
	if p.pos == len(p.in) {
		return nil, false
	}
	switch p.in[p.pos] {
	case '{':
		return p.object(depth)
	case '[':
		return p.list(depth)
	case '"':
		return p.text()
	case 't':
		return true, p.literal("true")
	case 'f':
		return false, p.literal("false")
	case 'n':
		return nil, p.literal("null")
	}
	return p.number()
}

func (p *parser) object(depth int) (Object, bool) {
	o, folded := Object{}, map[string]bool{}
	return o, p.elements(depth, '}', func() bool {
		name, ok := p.text()
		if !ok || folded[strings.ToLower(name)] {
			return false
		}
		folded[strings.ToLower(name)] = true
		p.space()
		if !p.literal(":") {
			return false
		}
		p.space()
		o[name], ok = p.value(depth - 1)
		return ok
	})
}

func (p *parser) list(depth int) ([]any, bool) {
	list := []any{}
	ok := p.elements(depth, ']', func() bool {
		v, ok := p.value(depth - 1)
		list = append(list, v)
		return ok
	})
	return list, ok
}

// elements reads from the opening bracket to the closing one.
func (p *parser) elements(depth int, end byte, element func() bool) bool {
	if depth == 0 {
		return false
	}
	p.pos++
	p.space()
	if p.literal(string(end)) {
		return true
	}
	for range maxMembers {
		p.space()
		if !element() {
			return false
		}
		p.space()
		if p.literal(string(end)) {
			return true
		}
		if !p.literal(",") {
			return false
		}
	}
	return false
}

func (p *parser) text() (string, bool) {
	if !p.literal(`"`) {
		return "", false
	}
	start := p.pos
	for p.pos < len(p.in) && p.in[p.pos] != '"' && p.in[p.pos] != '\\' && p.in[p.pos] >= 0x20 {
		p.pos++
	}
	out := p.in[start:p.pos]
	if p.literal(`"`) { // nothing escaped
		return string(out), utf8.Valid(out)
	}
	out = bytes.Clone(out)
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		p.pos++
		switch {
		case c == '"':
			return string(out), utf8.Valid(out)
		case c < 0x20:
			return "", false
		case c == '\\':
			var ok bool
			if out, ok = p.escape(out); !ok {
				return "", false
			}
		default:
			out = append(out, c)
		}
	}
	return "", false
}

// escape reads what follows a backslash (RFC 8259 7).
func (p *parser) escape(out []byte) ([]byte, bool) {
	if p.pos == len(p.in) {
		return nil, false
	}
	c := p.in[p.pos]
	p.pos++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return append(out, "\"\\/\b\f\n\r\t"[i]), true
	}
	if c != 'u' {
		return nil, false
	}
	r, ok := p.hex()
	if !ok {
		return nil, false
	}
	if utf16.IsSurrogate(r) {
		if !p.literal(`\u`) {
			return nil, false
		}
		low, ok := p.hex()
		if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
			return nil, false
		}
	}
	return utf8.AppendRune(out, r), true
}

func (p *parser) hex() (rune, bool) {
	if len(p.in)-p.pos < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.in[p.pos:p.pos+4]), 16, 16)
	p.pos += 4
	return rune(n), err == nil
}

// number reads RFC 8259 6 and keeps the text.
func (p *parser) number() (Number, bool) {
	start := p.pos
	p.literal("-")
	if !p.literal("0") && !p.digits() {
		return "", false
	}
	if p.literal(".") && !p.digits() {
		return "", false
	}
	if p.literal("e") || p.literal("E") {
		_ = p.literal("+") || p.literal("-")
		if !p.digits() {
			return "", false
		}
	}
	return Number(p.in[start:p.pos]), true
}

func (p *parser) digits() bool {
	start := p.pos
	for p.pos < len(p.in) && '0' <= p.in[p.pos] && p.in[p.pos] <= '9' {
		p.pos++
	}
	return p.pos > start
}

// marshal writes a struct of this package: its members in the order of its
// fields, no white space, nothing escaped that need not be.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("credential: " + err.Error()) // a type of ours that does not marshal
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
