package ipp

import (
	"encoding/binary"
	"fmt"
)

// operation is an operation-id (RFC 8011 5.4.15).
type operation uint16

const (
	printJob             operation = 0x0002
	cancelJob            operation = 0x0008
	getJobAttributes     operation = 0x0009
	getPrinterAttributes operation = 0x000B
)

// Job states (RFC 8011 5.3.7); smaller ones go on.
const (
	canceled  = 7
	completed = 9
)

// tag begins a group or a value (RFC 8010 3.5).
type tag byte

const (
	operationGroup  tag = 0x01
	endOfAttributes tag = 0x03
	firstValue      tag = 0x10 // below it are groups
	integerValue    tag = 0x21
	booleanValue    tag = 0x22
	enumValue       tag = 0x23
	textValue       tag = 0x41
	name            tag = 0x42
	keyword         tag = 0x44
	uri             tag = 0x45
	charset         tag = 0x47
	naturalLanguage tag = 0x48
	mimeMediaType   tag = 0x49
)

// attribute is a name with one value; the further values of the same name have none.
type attribute struct {
	tag   tag
	name  string
	value []byte
}

func text(t tag, name, value string) attribute { return attribute{t, name, []byte(value)} }

func integer(name string, n int) attribute {
	return attribute{integerValue, name, binary.BigEndian.AppendUint32(nil, uint32(n))}
}

func boolean(name string, yes bool) attribute {
	v := []byte{0}
	if yes {
		v[0] = 1
	}
	return attribute{booleanValue, name, v}
}

// request encodes an operation, version 1.1, all that precedes the document.
func request(op operation, attributes []attribute) []byte {
	b := binary.BigEndian.AppendUint16([]byte{1, 1}, uint16(op))
	b = append(b, 0, 0, 0, 1, byte(operationGroup)) // request-id 1: one request a connection at a time
	for _, a := range attributes {
		b = append(b, byte(a.tag))
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(a.name))), a.name...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(a.value))), a.value...)
	}
	return append(b, byte(endOfAttributes))
}

// response is an answer's status and attributes, in their order, groups forgotten.
type response struct {
	status     uint16
	attributes []attribute
}

func (r response) number(name string) int {
	for _, a := range r.attributes {
		if a.name != name {
			continue
		}
		switch {
		case (a.tag == integerValue || a.tag == enumValue) && len(a.value) == 4:
			return int(int32(binary.BigEndian.Uint32(a.value)))
		case a.tag == booleanValue && len(a.value) == 1:
			return int(a.value[0])
		}
	}
	return 0
}

func (r response) texts(name string) []string {
	var all []string
	for _, a := range r.attributes {
		if a.name == name && (a.tag == keyword || a.tag == textValue) {
			all = append(all, string(a.value))
		}
	}
	return all
}

// parse reads an answer (RFC 8010 3.1).
func parse(b []byte) (r response, err error) {
	if len(b) < 9 {
		return r, fmt.Errorf("%w: %d bytes", errForm, len(b))
	}
	r.status = binary.BigEndian.Uint16(b[2:])
	b = b[8:]
	last := ""
	for {
		if len(b) == 0 {
			return response{}, fmt.Errorf("%w: it has no end", errForm)
		}
		t := tag(b[0])
		b = b[1:]
		switch {
		case t == endOfAttributes:
			return r, nil
		case t < firstValue:
			last = ""
			continue
		}
		var key, value []byte
		if key, b, err = counted(b); err == nil {
			value, b, err = counted(b)
		}
		if err != nil {
			return response{}, err
		}
		if len(key) > 0 {
			last = string(key)
		}
		r.attributes = append(r.attributes, attribute{t, last, value})
	}
}

func counted(b []byte) (value, rest []byte, err error) {
	if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
		return nil, nil, fmt.Errorf("%w: it is cut short", errForm)
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	return b[2:n], b[n:], nil
}
