package lds

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/tlv"
)

// Name is a name as data groups other than DG1 write it: "<<" between primary
// and secondary identifier, in any script.
type Name struct {
	Primary   secret.Text // parts joined by one space
	Secondary secret.Text // empty when there is one name
}

// readers are the fields of a data group by tag. A reader says whether the
// content made sense and was the first of its kind.
type readers map[tlv.Tag]func(value []byte) bool

// read reads data objects, each by its reader, and lists those that could not
// be read: they do not hide the others.
func (r readers) read(nodes []tlv.Node, f *findings) (unread []tlv.Tag) {
	for _, n := range nodes {
		read, known := r[n.Tag]
		switch {
		case !known:
			f.warn(WarnUnknownObject)
		case !read(n.Value):
			f.warn(WarnFieldUnread)
		default:
			continue
		}
		unread = append(unread, n.Tag)
	}
	return unread
}

// parseDetails reads the outer template of DG11 or DG12: a tag list and the
// objects that it lists.
func parseDetails(group File, file []byte, f *findings) ([]tlv.Node, error) {
	outer, err := tlv.ParseOne(file, group.Tag())
	if err != nil {
		return nil, malformed(group.String(), err)
	}
	c := outer.Cursor()
	list := c.Next(0x5C).Value
	var nodes []tlv.Node
	for c.More() {
		nodes = append(nodes, c.Any())
	}
	if err := c.Done(); err != nil {
		return nil, malformed(group.String(), err)
	}
	listed, err := parseTagList(list)
	if err != nil {
		return nil, malformed(group.String(), err)
	}
	// For names in DO'A0' cards list that or the tag of the names in it.
	stands := func(n tlv.Node, tag tlv.Tag) bool {
		return n.Tag == tag || n.Tag == 0xA0 && (tag == 0x5F0F || tag == 0x5F1A)
	}
	for _, n := range nodes {
		if !slices.ContainsFunc(listed, func(tag tlv.Tag) bool { return stands(n, tag) }) {
			f.warn(WarnTagList)
		}
	}
	for _, tag := range listed {
		if !slices.ContainsFunc(nodes, func(n tlv.Node) bool { return stands(n, tag) }) {
			f.warn(WarnTagList)
		}
	}
	return nodes, nil
}

// parseTagList reads tags of one or two bytes, as DO'5C' has them.
func parseTagList(b []byte) ([]tlv.Tag, error) {
	var tags []tlv.Tag
	for len(b) > 0 {
		n := 1
		if b[0]&0x1F == 0x1F {
			n = 2
		}
		if len(b) < n || len(tags) == tlv.MaxNodes {
			return nil, fmt.Errorf("%w: tag list", ErrMalformed)
		}
		tag := tlv.Tag(b[0])
		if n == 2 {
			tag = tag<<8 | tlv.Tag(b[1])
		}
		tags = append(tags, tag)
		b = b[n:]
	}
	return tags, nil
}

// printable says whether b is text: UTF-8 without control characters.
func printable(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r == 0x7F })
}

// text reads a line of text, in which "<" stands for a space.
func text(to *secret.Text) func([]byte) bool {
	return func(b []byte) bool {
		if to.Len() != 0 || !printable(b) {
			return false
		}
		*to = secret.FromString(words(string(b)))
		return true
	}
}

// lines reads text in parts, which "<" separates.
func lines(to *[]secret.Text) func([]byte) bool {
	return func(b []byte) bool {
		if *to != nil || !printable(b) {
			return false
		}
		for _, part := range strings.Split(string(b), "<") {
			if part != "" {
				*to = append(*to, secret.FromString(part))
			}
		}
		return true
	}
}

func name(to *Name) func([]byte) bool {
	return func(b []byte) bool {
		if to.Primary.Len() != 0 || !printable(b) {
			return false
		}
		primary, secondary, _ := strings.Cut(string(b), "<<")
		*to = Name{secret.FromString(words(primary)), secret.FromString(words(secondary))}
		return true
	}
}

// addName reads a name into a list that it grows.
func addName(to *[]Name) func([]byte) bool {
	return func(b []byte) bool {
		var n Name
		if !name(&n)(b) {
			return false
		}
		*to = append(*to, n)
		return true
	}
}

// nameList reads DO'A0' of DG11 and DG12: a number and as many names under the
// given tag. What can be read is kept.
func nameList(tag tlv.Tag, to *[]Name) func([]byte) bool {
	return func(b []byte) bool {
		nodes, err := tlv.Parse(b)
		if err != nil {
			return false
		}
		count, ok := tlv.Find(nodes, 0x02)
		for _, n := range nodes {
			if n.Tag != 0x02 {
				ok = n.Tag == tag && addName(to)(n.Value) && ok
			}
		}
		return ok && counts(count.Value, len(nodes)-1)
	}
}

// date reads YYYYMMDD, in digits or, as some cards have it, in four bytes of
// binary coded decimals.
func date(to *secret.Text) func([]byte) bool {
	return func(b []byte) bool {
		s := decimals(b, 8)
		if to.Len() != 0 || len(s) != 8 || !fullDate(s) {
			return false
		}
		*to = secret.FromString(s)
		return true
	}
}

// moment reads YYYYMMDDhhmmss, in digits or in seven bytes of binary coded
// decimals.
func moment(to *secret.Text) func([]byte) bool {
	return func(b []byte) bool {
		s := decimals(b, 14)
		if to.Len() != 0 || !digits(s, 14) || !fullDate(s[:8]) || s[8:10] > "23" || s[10:12] > "59" || s[12:] > "60" {
			return false
		}
		*to = secret.FromString(s)
		return true
	}
}

// decimals returns n characters: b itself, or b's half bytes.
func decimals(b []byte, n int) string {
	if len(b) == n/2 {
		return fmt.Sprintf("%x", b)
	}
	return string(b)
}

// fullDate accepts YYYYMMDD; month and day may be unknown, "00" or "<<".
func fullDate(s string) bool {
	year, err := strconv.ParseUint(s[:4], 10, 16)
	return err == nil && Date{secret.FromString(s[2:])}.possibleIn(int(year))
}

func picture(to *Image) func([]byte) bool {
	return func(b []byte) bool {
		i, err := newImage(b)
		if to.Data != nil || err != nil {
			return false
		}
		*to = i
		return true
	}
}
