package ipp

import (
	"testing"
)

// Parsing foreign bytes neither panics nor finds what is not there.
func FuzzParse(f *testing.F) {
	f.Add(request(getJobAttributes, []attribute{text(charset, "attributes-charset", "utf-8"), integer("job-id", 7), text(keyword, "requested-attributes", "job-state"), text(keyword, "", "job-state-reasons")}))
	f.Add([]byte("\x01\x01\x00\x00\x00\x00\x00\x01\x02\x23\x00\x09job-state\x00\x04\x00\x00\x00\x09\x03"))
	f.Add([]byte("\x01\x01\x04\x06\x00\x00\x00\x01\x01\x03"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			if len(r.attributes) > 0 || r.status != 0 {
				t.Errorf("a response beside the error: %+v", r)
			}
			return
		}
		total := 0
		for _, a := range r.attributes {
			total += len(a.value) + 5
		}
		if total > len(b) {
			t.Errorf("%d bytes of values in %d", total, len(b))
		}
		r.number("job-state")
		r.texts("job-state-reasons")
	})
}
