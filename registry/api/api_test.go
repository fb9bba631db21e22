package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

const hexID = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func id(t testing.TB, s string) api.ID {
	t.Helper()
	v, err := api.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMessagesRoundTrip(t *testing.T) {
	batch := api.Batch{Items: []api.Item{{ID: id(t, hexID), Submission: api.Data("\xff\xfe{}")}}}
	b, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"items":[{"id":"` + hexID + `","submission":"__57fQ"}]}`; string(b) != want {
		t.Errorf("%s, want %s", b, want)
	}
	back, err := api.Decode[api.Batch](bytes.NewReader(b))
	if err != nil || back.Items[0].ID != batch.Items[0].ID || !bytes.Equal(back.Items[0].Submission, batch.Items[0].Submission) {
		t.Errorf("%v: %+v", err, back)
	}
	// White space and order are free on the wire: only what it carries is canonical.
	loose := "{ \"items\" : [ { \"submission\" : \"e30\", \"id\" : \"" + hexID + "\" } ] }\n"
	if _, err := api.Decode[api.Batch](strings.NewReader(loose)); err != nil {
		t.Errorf("another client's spacing: %v", err)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	item := `{"id":"` + hexID + `","submission":"e30"}`
	for name, text := range map[string]string{
		"empty":            ``,
		"login page":       `<html>sign in</html>`,
		"null":             `null`,
		"list":             `[]`,
		"no items":         `{"items":[]}`,
		"unknown member":   `{"items":[` + item + `],"x":1}`,
		"member case":      `{"Items":[` + item + `]}`,
		"member twice":     `{"items":[],"items":[` + item + `]}`,
		"inner twice":      `{"items":[{"id":"` + hexID + `","submission":"e30","submission":"e31"}]}`,
		"trailing value":   `{"items":[` + item + `]}{}`,
		"trailing garbage": `{"items":[` + item + `]}]`,
		"cut":              `{"items":[` + item,
		"short id":         `{"items":[{"id":"0011","submission":"e30"}]}`,
		"upper-case id":    `{"items":[{"id":"` + strings.ToUpper(hexID) + `","submission":"e30"}]}`,
		"long id":          `{"items":[{"id":"` + hexID + `00","submission":"e30"}]}`,
		"base64 tail":      `{"items":[{"id":"` + hexID + `","submission":"e31"}]}`,
		"base64 newline":   `{"items":[{"id":"` + hexID + `","submission":"e3\n0"}]}`,
		"padding":          `{"items":[{"id":"` + hexID + `","submission":"e30="}]}`,
		"no submission":    `{"items":[{"id":"` + hexID + `","submission":""}]}`,
		"item twice":       `{"items":[` + item + `,` + item + `]}`,
		"too many":         `{"items":[` + strings.Repeat(item+",", api.MaxItems) + item + `]}`,
		"deep":             strings.Repeat(`{"items":[`, 100),
	} {
		if _, err := api.Decode[api.Batch](strings.NewReader(text)); !errors.Is(err, api.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := api.Decode[api.Batch](io.LimitReader(zeros{}, api.MaxBody+10)); !errors.Is(err, api.ErrSize) {
		t.Errorf("too large: %v", err)
	}
	failing := errors.New("connection reset")
	if _, err := api.Decode[api.Batch](io.MultiReader(strings.NewReader("{"), failingReader{failing})); !errors.Is(err, failing) || errors.Is(err, api.ErrForm) {
		t.Errorf("the network's error is lost: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestVerdictsAnswerTheBatch(t *testing.T) {
	a, b := api.ID{1}, api.ID{2}
	batch := api.Batch{Items: []api.Item{{ID: a, Submission: []byte("x")}, {ID: b, Submission: []byte("y")}}}
	good := api.BatchResult{Verdicts: []api.ItemVerdict{
		{ID: b, Status: api.Retry, RetryAfter: 5}, {ID: a, Status: api.Rejected, Code: "record-signature", Verdict: "jws"},
	}}
	if err := good.Answers(batch); err != nil {
		t.Error(err)
	}
	for name, verdicts := range map[string][]api.ItemVerdict{
		"one missing":        {{ID: a, Status: api.Pending}},
		"one twice":          {{ID: a, Status: api.Pending}, {ID: a, Status: api.Pending}},
		"one not sent":       {{ID: a, Status: api.Pending}, {ID: b, Status: api.Pending}, {ID: api.ID{3}, Status: api.Pending}},
		"unsigned rejection": {{ID: a, Status: api.Rejected, Code: "c"}, {ID: b, Status: api.Pending}},
		"no reason":          {{ID: a, Status: api.Rejected, Verdict: "jws"}, {ID: b, Status: api.Pending}},
		"unknown status":     {{ID: a, Status: "ok"}, {ID: b, Status: api.Pending}},
		"status of GET":      {{ID: a, Status: api.Active}, {ID: b, Status: api.Pending}},
		"negative wait":      {{ID: a, Status: api.Retry, RetryAfter: -1}, {ID: b, Status: api.Pending}},
	} {
		if err := (api.BatchResult{Verdicts: verdicts}).Answers(batch); !errors.Is(err, api.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatusForms(t *testing.T) {
	for _, s := range []api.RecordStatus{
		{Status: api.Pending}, {Status: api.Pending, Receipt: "r"}, {Status: api.Active, Verdict: "v", Receipt: "r"},
		{Status: api.Refused, Verdict: "v", Code: "vault-review"}, {Status: api.Rejected, Verdict: "v", Code: "c"},
	} {
		if err := s.Check(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, s := range []api.RecordStatus{
		{}, {Status: api.Active}, {Status: api.Pending, Verdict: "v"}, {Status: api.Rejected, Verdict: "v", Receipt: "r"}, {Status: api.Accepted},
	} {
		if err := s.Check(); !errors.Is(err, api.ErrForm) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestProblem(t *testing.T) {
	b, err := json.Marshal(api.NewProblem(413, api.CodeTooLarge, "The batch is too large"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := api.Decode[api.Problem](bytes.NewReader(b))
	if err != nil || p.Status != 413 || p.Type != "urn:enrollkiosk:problem:api-size" {
		t.Errorf("%v: %+v", err, p)
	}
	for _, text := range []string{`{"type":"about:blank","title":"","status":413,"code":"api-size"}`, `{"type":"urn:enrollkiosk:problem:x","title":"","status":200,"code":"x"}`} {
		if _, err := api.Decode[api.Problem](strings.NewReader(text)); !errors.Is(err, api.ErrForm) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if !api.IsMedia("application/problem+json; charset=utf-8", api.MediaProblem) || api.IsMedia("text/html", api.MediaJSON) || api.IsMedia("", api.MediaJSON) || !api.IsMedia("text/plain", api.MediaText) {
		t.Error("media types")
	}
}

// The largest allowed pieces fit together.
func TestLimitsFit(t *testing.T) {
	per := len(`{"id":"","submission":""},`) + 64
	if n := len(`{"items":[]}`) + api.MaxItems*per + base64.RawURLEncoding.EncodedLen(api.MaxBatchData); n > api.MaxBody {
		t.Errorf("a full batch is %d bytes", n)
	}
	if record.MaxSubmission > api.MaxBatchData {
		t.Error("the largest submission fits no batch")
	}
	if n := len(`{"record":""}`) + base64.RawURLEncoding.EncodedLen(record.MaxSubmission); n > api.MaxBody {
		t.Errorf("the largest open request is %d bytes", n)
	}
	if n := parcel.MaxItems * (2*receipt.MaxSize + 512); n > api.MaxBody || n > parcel.MaxPlain {
		t.Errorf("the largest answer to a file of a parcel is %d bytes", n)
	}
	const particulars = 16 << 10 // names, endorsement and attestation key
	if n := base64.RawURLEncoding.EncodedLen(record.MaxUnblock) + base64.RawURLEncoding.EncodedLen(record.MaxSubmission) + particulars; n > api.MaxBody {
		t.Errorf("the largest unblock order is %d bytes", n)
	}
}

// The contract for others names every path, status and code that this package has.
func TestContractDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	source, err := os.ReadFile("api.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{
		"openapi: 3.1.", api.PathRecords + ":", api.PathRecords + "/{id}:", api.PathStatus + ":", "enum: [" + api.Gzip + "]", api.PathPolicy + ":", api.PathTime + ":", api.PathCheckpoint + ":", api.PathLog + "tile/",
		api.PathLive + ":", api.PathReady + ":", api.PathOpen + ":", api.PathCancellations + ":", api.PathOutcomes + ":", api.PathLevel + ":", api.PathTokenUnblock + ":", api.PathUnblock + ":", api.MediaJOSEJS, api.PathProvisionBegin + ":", api.PathProvisionProve + ":", api.PathProvision + "/{session}:", api.MediaProblem, api.MediaJOSE, "maxItems: 64", "retry_after",
	} {
		if !strings.Contains(doc, word) {
			t.Errorf("docs/openapi.yaml lacks %q", word)
		}
	}
	for _, line := range strings.Split(string(source), "\n") {
		_, value, ok := strings.Cut(line, "= \"")
		if name := strings.Fields(line); ok && len(name) > 0 && strings.HasPrefix(name[0], "Code") {
			if code, _, _ := strings.Cut(value, `"`); !strings.Contains(doc, code) {
				t.Errorf("docs/openapi.yaml lacks code %q", code)
			}
		}
	}
	for _, code := range []string{
		record.CodeSize, record.CodeCanonical, record.CodeForm, record.CodeSigners, record.CodeSignature, record.CodeAudience, record.CodeAttestation,
	} {
		if !strings.Contains(doc, code) {
			t.Errorf("docs/openapi.yaml lacks code %q", code)
		}
	}
}

func TestStatusesAnswerTheQuery(t *testing.T) {
	a, b := api.ID{1}, api.ID{2}
	query := api.StatusQuery{IDs: []api.ID{a, b}}
	known := api.RecordStatus{ID: a, Status: api.Pending, Receipt: "proof"}
	unknown := api.RecordStatus{ID: b, Status: api.Unknown}
	for _, good := range [][]api.RecordStatus{{known, unknown}, {unknown, known}, {known}} {
		if err := (api.StatusResult{Statuses: good}).Answers(query); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for name, bad := range map[string][]api.RecordStatus{
		"nothing": {}, "twice": {known, known}, "not asked for": {{ID: api.ID{3}, Status: api.Pending}},
		"unknown with a receipt": {{ID: a, Status: api.Unknown, Receipt: "proof"}}, "rejected without a verdict": {{ID: a, Status: api.Rejected}},
		"retry": {{ID: a, Status: api.Retry}},
	} {
		if err := (api.StatusResult{Statuses: bad}).Answers(query); !errors.Is(err, api.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := make([]api.ID, api.MaxItems+1)
	for i := range many {
		many[i][0] = byte(i)
	}
	for name, bad := range map[string][]api.ID{"none": {}, "too many": many, "twice": {a, a}} {
		if err := (api.StatusQuery{IDs: bad}).Check(); !errors.Is(err, api.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// "unknown" answers a query for many; for one there is 404.
	if err := unknown.Check(); !errors.Is(err, api.ErrForm) {
		t.Errorf("unknown as an answer about one record: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"items":[{"id":"` + hexID + `","submission":"e30"}]}`))
	f.Add([]byte(`{"verdicts":[{"id":"` + hexID + `","status":"pending"}]}`))
	f.Add([]byte(`{"statuses":[{"id":"` + hexID + `","status":"unknown"}]}`))
	f.Add([]byte(`{"ids":["` + hexID + `"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, err := range []error{
			second(api.Decode[api.Batch](bytes.NewReader(b))), second(api.Decode[api.BatchResult](bytes.NewReader(b))),
			second(api.Decode[api.RecordStatus](bytes.NewReader(b))),
			second(api.Decode[api.StatusQuery](bytes.NewReader(b))), second(api.Decode[api.StatusResult](bytes.NewReader(b))), second(api.Decode[api.ReceiptQuery](bytes.NewReader(b))), second(api.Decode[api.Problem](bytes.NewReader(b))),
			second(api.Decode[api.ClaimsRequest](bytes.NewReader(b))), second(api.Decode[api.ClaimsResult](bytes.NewReader(b))), second(api.Decode[api.PlacesRequest](bytes.NewReader(b))), second(api.Decode[api.PlacesResult](bytes.NewReader(b))),
			second(api.Decode[api.UnblockOrder](bytes.NewReader(b))), second(api.Decode[api.UnblockResult](bytes.NewReader(b))),
			second(api.Decode[api.Cancellation](bytes.NewReader(b))), second(api.Decode[api.Cancelled](bytes.NewReader(b))), second(api.Decode[api.Outcomes](bytes.NewReader(b))), second(api.Decode[api.LevelRequest](bytes.NewReader(b))), second(api.Decode[api.LevelResult](bytes.NewReader(b))),
		} {
			if err != nil && !errors.Is(err, api.ErrForm) && !errors.Is(err, api.ErrSize) {
				t.Errorf("untyped: %v", err)
			}
		}
		samePlain(t, b)
	})
}

// samePlain: a batch is read the same by the quick reader, if it reads it, and by
// the general one, which alone takes white space.
func samePlain(t *testing.T, b []byte) {
	t.Helper()
	quick, err := api.Decode[api.Batch](bytes.NewReader(b))
	general, want := api.Decode[api.Batch](io.MultiReader(strings.NewReader("\n"), bytes.NewReader(b)))
	if (err == nil) != (want == nil) || !reflect.DeepEqual(quick, general) {
		t.Errorf("%q is read as %+v, %v; with white space before it as %+v, %v", b, quick, err, general, want)
	}
}

func TestPlainBatches(t *testing.T) {
	one := `{"id":"` + hexID + `","submission":"e30"}`
	other := strings.Replace(one, hexID[:4], "ffff", 1)
	if _, err := api.Decode[api.Batch](strings.NewReader(`{"items":[` + one + `,` + other + `]}`)); err != nil {
		t.Error(err)
	}
	for _, text := range []string{
		`{"items":[` + one + `]}`, `{"items":[` + one + `,` + other + `]}`, `{"items":[` + one + `,` + one + `]}`, `{"items":[` + one + `]} `, `{"items":[` + one + `]}x`,
		`{"items":[` + one + `,]}`, `{"items":[` + one + other + `]}`, `{"items":[` + one, `{"items":[]}`, `{"items":[`, `{"items":[` + one[:20],
		`{"items":[` + strings.Repeat(one+",", api.MaxItems) + other + `]}`,
		strings.Replace(`{"items":[`+one+`]}`, "e30", "e31", 1), strings.Replace(`{"items":[`+one+`]}`, "e30", "e\n30", 1), strings.Replace(`{"items":[`+one+`]}`, "e30", `e\u0033\u0030`, 1),
		strings.Replace(`{"items":[`+one+`]}`, "e30", "", 1), strings.Replace(`{"items":[`+one+`]}`, "e30", "e30=", 1), strings.ToUpper(`{"items":[` + one + `]}`),
	} {
		samePlain(t, []byte(text))
	}
}

func second[T any](_ T, err error) error { return err }
