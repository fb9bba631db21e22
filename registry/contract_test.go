package registry_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/registrytest"
)

// The contract, docs/openapi.yaml, is held from four sides. Every answer that any
// test of this package gets over [connect] is compared with it; when all tests
// have run, each status that it documents must have come. Its routes are the
// server's, its members those of package api. And from its schemas requests are
// made that must be refused.

// contract is docs/openapi.yaml.
type contract struct {
	schemas    map[string]any
	operations []operation

	mu   sync.Mutex
	seen map[string]bool // "operation status"
	odd  []string
}

// operation is a path and method of the contract.
type operation struct {
	id, path, method string
	tag              string
	match            *regexp.Regexp
	request          map[string]any            // media -> schema
	answers          map[string]map[string]any // status -> media -> schema
	headers          map[string]map[string]any // status -> header -> schema
}

var loadContract = sync.OnceValues(func() (*contract, error) {
	b, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	c := &contract{schemas: doc, seen: map[string]bool{}}
	at := func(m any, path ...string) map[string]any {
		for _, p := range path {
			m = c.resolve(m)[p]
		}
		return c.resolve(m)
	}
	schemas := func(content map[string]any) map[string]any {
		out := map[string]any{}
		for media, m := range content {
			out[media] = c.resolve(m)["schema"]
		}
		return out
	}
	for path, item := range at(doc, "paths") {
		for method, o := range c.resolve(item) {
			op := operation{id: at(o)["operationId"].(string), path: path, method: strings.ToUpper(method), tag: at(o)["tags"].([]any)[0].(string),
				request: schemas(at(o, "requestBody", "content")), answers: map[string]map[string]any{}, headers: map[string]map[string]any{}}
			pattern := regexp.QuoteMeta(path)
			pattern = strings.ReplaceAll(pattern, `\{path\}`, ".+")
			op.match = regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(pattern, "[^/]+") + "$")
			for status, a := range at(o, "responses") {
				op.answers[status] = schemas(at(a, "content"))
				op.headers[status] = schemas(at(a, "headers"))
			}
			c.operations = append(c.operations, op)
		}
	}
	sort.Slice(c.operations, func(i, j int) bool { // a path without parameters comes before one with
		a, b := c.operations[i], c.operations[j]
		if x, y := strings.Count(a.path, "{"), strings.Count(b.path, "{"); x != y {
			return x < y
		}
		return a.path+a.method < b.path+b.method
	})
	return c, nil
})

func theContract(t testing.TB) *contract {
	t.Helper()
	c, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// resolve follows a $ref; whatever is no object is an empty one.
func (c *contract) resolve(v any) map[string]any {
	m, _ := v.(map[string]any)
	ref, _ := m["$ref"].(string)
	if ref == "" {
		return m
	}
	var at any = c.schemas
	for _, p := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		next, ok := at.(map[string]any)[p]
		if !ok {
			panic("openapi.yaml: " + ref + " leads nowhere")
		}
		at = next
	}
	return c.resolve(at)
}

// check says how a value is not what a schema wants. It knows the keywords that
// the contract uses and no others.
func (c *contract) check(schema, v any, at string) error {
	own, _ := schema.(map[string]any)
	if own["$ref"] != nil {
		return c.check(c.resolve(own), v, at)
	}
	fail := func(format string, a ...any) error { return fmt.Errorf("%s: %s", at, fmt.Sprintf(format, a...)) }
	number := func(key string) (float64, bool) {
		n, ok := own[key].(int)
		return float64(n), ok
	}
	s, isString := v.(string)
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	n, isNumber := v.(float64)
	for key, want := range own {
		switch key {
		case "description", "examples", "format":
		case "type":
			if is := map[any]bool{"string": isString, "boolean": v == true || v == false, "array": isList, "object": isObject, "integer": isNumber && n == float64(int64(n))}; !is[want] {
				return fail("%T is no %v", v, want)
			}
		case "const":
			if fmt.Sprint(v) != fmt.Sprint(want) {
				return fail("%v, want %v", v, want)
			}
		case "enum":
			if !slices.Contains(want.([]any), v) {
				return fail("%v is none of %v", v, want)
			}
		case "pattern":
			if isString && !regexp.MustCompile(want.(string)).MatchString(s) {
				return fail("%.80q does not match %s", s, want)
			}
		case "maxLength":
			if most, _ := number(key); isString && float64(utf8.RuneCountInString(s)) > most {
				return fail("%d characters", len(s))
			}
		case "minLength":
			if least, _ := number(key); isString && float64(utf8.RuneCountInString(s)) < least {
				return fail("%d characters", len(s))
			}
		case "uniqueItems":
			seen := map[string]bool{}
			for _, one := range list {
				if want == true && seen[fmt.Sprint(one)] {
					return fail("%v twice", one)
				}
				seen[fmt.Sprint(one)] = true
			}
		case "contentEncoding":
			if _, err := base64.StdEncoding.Strict().DecodeString(s); err != nil {
				return fail("%v", err)
			}
		case "minimum", "maximum":
			if limit, _ := number(key); isNumber && (key == "minimum" && n < limit || key == "maximum" && n > limit) {
				return fail("%v is out of range", n)
			}
		case "minItems", "maxItems":
			if limit, _ := number(key); isList && (key == "minItems" && float64(len(list)) < limit || key == "maxItems" && float64(len(list)) > limit) {
				return fail("%d items", len(list))
			}
		case "items":
			for i, one := range list {
				if err := c.check(want, one, fmt.Sprintf("%s[%d]", at, i)); err != nil {
					return err
				}
			}
		case "required":
			for _, name := range want.([]any) {
				if _, there := object[name.(string)]; !there {
					return fail("lacks %s", name)
				}
			}
		case "additionalProperties":
			known, _ := own["properties"].(map[string]any)
			for name := range object {
				if _, ok := known[name]; !ok && want == false {
					return fail("%s is not in the contract", name)
				}
			}
		case "properties":
			for name, sub := range want.(map[string]any) {
				if one, there := object[name]; there {
					if err := c.check(sub, one, at+"."+name); err != nil {
						return err
					}
				}
			}
		case "allOf":
			for _, sub := range want.([]any) {
				if err := c.check(sub, v, at); err != nil {
					return err
				}
			}
		case "oneOf":
			var fits int
			var first error
			for _, sub := range want.([]any) {
				if err := c.check(sub, v, at); err == nil {
					fits++
				} else if first == nil {
					first = err
				}
			}
			if fits != 1 {
				return fail("fits %d of oneOf; %v", fits, first)
			}
		default:
			return fail("the contract uses %q, which this test does not know", key)
		}
	}
	return nil
}

// watched is a transport whose answers are held against the contract.
type watched struct {
	http.RoundTripper
	c *contract
}

func (w watched) RoundTrip(q *http.Request) (*http.Response, error) {
	var sent []byte
	if q.Body != nil && q.GetBody != nil {
		if b, err := q.GetBody(); err == nil {
			sent, _ = io.ReadAll(b)
		}
	}
	a, err := w.RoundTripper.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(a.Body)
	a.Body.Close()
	if err != nil {
		return nil, err
	}
	a.Body = io.NopCloser(bytes.NewReader(b))
	if err := w.c.answer(q, sent, a, b); err != nil {
		w.c.mu.Lock()
		w.c.odd = append(w.c.odd, fmt.Sprintf("%s %s: %d: %v", q.Method, q.URL.Path, a.StatusCode, err))
		w.c.mu.Unlock()
	}
	return a, nil
}

// answer compares one exchange with the contract.
func (c *contract) answer(q *http.Request, sent []byte, a *http.Response, body []byte) error {
	status := strconv.Itoa(a.StatusCode)
	media, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	problem := map[string]any{"$ref": "#/components/schemas/Problem"}
	i := slices.IndexFunc(c.operations, func(o operation) bool {
		return o.match.MatchString(q.URL.Path) && (o.method == q.Method || o.method == http.MethodGet && q.Method == http.MethodHead)
	})
	switch {
	case a.StatusCode == http.StatusRequestHeaderFieldsTooLarge, a.StatusCode == http.StatusMovedPermanently, a.StatusCode == http.StatusTemporaryRedirect:
		return nil // the HTTP server's own
	case i < 0 && a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusMethodNotAllowed:
		return fmt.Errorf("not in the contract")
	case a.StatusCode == http.StatusMethodNotAllowed && a.Header.Get("Allow") == "":
		return fmt.Errorf("no Allow")
	case i < 0 || a.StatusCode == http.StatusMethodNotAllowed:
		if media != api.MediaProblem {
			return fmt.Errorf("media %q", media)
		}
		return c.json(problem, body)
	}
	o := c.operations[i]
	answers, documented := o.answers[status]
	if !documented {
		return fmt.Errorf("%s does not document it: %s", o.id, body)
	}
	c.mu.Lock()
	c.seen[o.id+" "+status] = true
	c.mu.Unlock()
	schema, known := answers[media]
	if !known {
		return fmt.Errorf("media %q is not documented", media)
	}
	if q.Method == http.MethodHead {
		return nil
	}
	if strings.HasSuffix(media, "json") {
		if err := c.json(schema, body); err != nil {
			return err
		}
	} else if utf8.Valid(body) {
		if err := c.check(schema, string(body), "body"); err != nil {
			return err
		}
	}
	if media == api.MediaProblem {
		var p api.Problem
		if err := json.Unmarshal(body, &p); err != nil || p.Status != a.StatusCode {
			return fmt.Errorf("problem: %v, status %d", err, p.Status)
		}
		if after := a.Header.Get("Retry-After"); after != "" && after != strconv.Itoa(p.RetryAfter) || after == "" && p.RetryAfter != 0 {
			return fmt.Errorf("Retry-After %q and retry_after %d", after, p.RetryAfter)
		}
	}
	if a.StatusCode == http.StatusOK && len(sent) > 0 && q.Header.Get("Content-Encoding") == "" {
		schema, known := o.request[q.Header.Get("Content-Type")]
		if !known {
			return fmt.Errorf("took a body of media %q", q.Header.Get("Content-Type"))
		}
		if err := c.json(schema, sent); err != nil && strings.HasSuffix(q.Header.Get("Content-Type"), "/json") {
			return fmt.Errorf("took a request that the contract forbids: %w", err)
		}
	}
	return nil
}

func (c *contract) json(schema any, b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	return c.check(schema, v, "body")
}

// unreached says why no test gets a status.
var unreached = map[string]string{
	"time 503":     "a key in memory does not fail",
	"outcomes 503": "it takes a disk that fails while the vault reads",
	"level 503":    "likewise",
	"places 503":   "a key in memory does not fail",
}

// verdict is what is wrong after all tests have run: answers that the contract
// does not have, and statuses of it that never came.
func (c *contract) verdict(all bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	wrong := slices.Clone(c.odd)
	for _, o := range c.operations {
		for status := range o.answers {
			if all && !c.seen[o.id+" "+status] && unreached[o.id+" "+status] == "" {
				wrong = append(wrong, fmt.Sprintf("%s (%s %s): no test gets the documented status %s", o.id, o.method, o.path, status))
			}
		}
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

// The server's routes are the contract's, and no other method is taken.
func TestContractRoutes(t *testing.T) {
	c := theContract(t)
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	var want, got []string
	for _, o := range c.operations {
		if o.tag != "vault" {
			want = append(want, o.method+" "+o.path)
		}
	}
	for _, route := range registry.Routes(r.Registry) {
		if route == "GET "+api.PathLog+"{path...}" { // one route, two of the contract's
			got = append(got, "GET "+api.PathCheckpoint, "GET "+api.PathLog+"tile/{path}")
			continue
		}
		got = append(got, route)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("contract and server differ:\n%s\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	k := connect(t, w, r.URL, w.Kiosk(t, "KIOSK-0001").TLS)
	for _, o := range c.operations {
		path := regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(o.path, strings.Repeat("0", 64))
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if o.tag == "vault" || slices.ContainsFunc(c.operations, func(o operation) bool { return o.method == method && o.match.MatchString(path) }) {
				continue
			}
			k.problem(method, path, "", nil, http.StatusMethodNotAllowed, api.CodeMethod)
		}
	}
}

// Members of the contract's objects are those of package api, required where they
// are never left out.
func TestContractMembers(t *testing.T) {
	c := theContract(t)
	all := c.resolve(c.resolve(c.schemas["components"])["schemas"])
	var compare func(name string, schema any, typ reflect.Type)
	compare = func(name string, schema any, typ reflect.Type) {
		s := c.resolve(schema)
		if one, ok := s["items"]; ok && typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8 {
			compare(name+"[]", one, typ.Elem())
			return
		}
		if typ.Kind() == reflect.Pointer {
			compare(name, schema, typ.Elem())
			return
		}
		properties, ok := s["properties"].(map[string]any)
		if !ok {
			return
		}
		if s["additionalProperties"] != false {
			t.Errorf("%s lets in unknown members", name)
		}
		required := map[string]bool{}
		for _, r := range s["required"].([]any) {
			required[r.(string)] = true
		}
		fields := map[string]bool{}
		for i := range typ.NumField() {
			f := typ.Field(i)
			member, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields[member] = true
			if properties[member] == nil {
				t.Errorf("%s.%s is not in the contract", name, member)
				continue
			}
			if optional := option != ""; optional == required[member] {
				t.Errorf("%s.%s: left out if empty: %v; required by the contract: %v", name, member, optional, required[member])
			}
			compare(name+"."+member, properties[member], f.Type)
		}
		for member := range properties {
			if !fields[member] {
				t.Errorf("%s.%s is only in the contract", name, member)
			}
		}
	}
	for _, v := range []any{api.Batch{}, api.BatchResult{}, api.RecordStatus{}, api.StatusQuery{}, api.StatusResult{}, api.ReceiptQuery{}, api.OpenRequest{}, api.OpenResult{}, api.UnblockOrder{}, api.UnblockResult{}, api.ClaimsRequest{}, api.ClaimsResult{}, api.PlacesRequest{}, api.PlacesResult{},
		api.Problem{}, api.ProvisionBegin{}, api.ProvisionChallenge{}, api.ProvisionProof{}, api.ProvisionStatus{}, api.KioskCertificates{}} {
		typ := reflect.TypeOf(v)
		if all[typ.Name()] == nil {
			t.Errorf("the contract has no %s", typ.Name())
			continue
		}
		compare(typ.Name(), all[typ.Name()], typ)
	}
}

// mutants are values that differ from a good one in one thing that the schema
// forbids.
func (c *contract) mutants(schema, good any, at string, yield func(what string, v any)) {
	s := c.resolve(schema)
	if all, ok := s["allOf"].([]any); ok {
		s = c.resolve(all[0])
	}
	for _, wrong := range []any{nil, true, 3.5, "?", []any{}, map[string]any{"x": 1}} {
		if reflect.TypeOf(wrong) == reflect.TypeOf(good) && wrong != "?" || c.check(schema, wrong, "") == nil {
			continue
		}
		yield(fmt.Sprintf("%s is %v", at, wrong), wrong)
	}
	switch good := good.(type) {
	case map[string]any:
		with := func(change func(m map[string]any)) map[string]any {
			m := map[string]any{}
			for k, v := range good {
				m[k] = v
			}
			change(m)
			return m
		}
		yield(at+" has a member more", with(func(m map[string]any) { m["more"] = 1 }))
		for _, name := range s["required"].([]any) {
			yield(fmt.Sprintf("%s lacks %s", at, name), with(func(m map[string]any) { delete(m, name.(string)) }))
		}
		for name, sub := range s["properties"].(map[string]any) {
			if one, there := good[name]; there {
				c.mutants(sub, one, at+"."+name, func(what string, v any) { yield(what, with(func(m map[string]any) { m[name] = v })) })
			}
		}
	case []any:
		if most, ok := s["maxItems"].(int); ok && len(good) > 0 {
			yield(at+" is too long", slices.Repeat(good[:1], most+1))
		}
		if len(good) > 0 {
			c.mutants(s["items"], good[0], at+"[0]", func(what string, v any) {
				list := slices.Clone(good)
				list[0] = v
				yield(what, list)
			})
		}
	}
}

// vaultClient is the registry's own connection to the vault.
func vaultClient(t *testing.T, w *registrytest.World, address string) client {
	t.Helper()
	own, err := keyfile.TLS(w.RegistryDir(), "vault-client")
	if err != nil {
		t.Fatal(err)
	}
	root, err := keyfile.ReadCertificate(w.VaultDir() + "/tls-root.crt")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: registrytest.TLS(t, root.Raw, own)}
	t.Cleanup(transport.CloseIdleConnections)
	return client{t, "https://" + address, &http.Client{Transport: watched{transport, theContract(t)}}}
}

// Requests that break the contract in one place are refused, each of them, and
// change nothing.
func TestContractRefusals(t *testing.T) {
	c := theContract(t)
	d := newDesk(t)
	v := vaultClient(t, d.w, d.vault)
	s := d.k.Make(t, registrytest.Spec{})
	ak, err := d.tpm.tpm.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	asks := d.tpm.asks(kioskID, api.NewCode(d.w.Root, api.KeyHash(nil)))
	proof := api.ProvisionProof{}
	d.tpm.states(&proof, make([]byte, 32))
	proof.Secret = []byte{1}
	for _, one := range []struct {
		id   string
		to   client
		good any
	}{
		{"submit", d.c, api.Batch{Items: []api.Item{item(s)}}},
		{"beginProvisioning", d.c, asks},
		{"proveProvisioning", d.c, proof},
		{"open", v, api.OpenRequest{Record: s.Bytes()}},
		{"release", v, api.UnblockOrder{Request: d.k.Unblock(t, d.spec).Bytes(), Record: s.Bytes(), Endorsement: asks.Endorsements[0], AttestationKey: ak.Public}},
	} {
		o := c.operations[slices.IndexFunc(c.operations, func(o operation) bool { return o.id == one.id })]
		b, err := json.Marshal(one.good)
		if err != nil {
			t.Fatal(err)
		}
		var good any
		if err := json.Unmarshal(b, &good); err != nil {
			t.Fatal(err)
		}
		schema := o.request[api.MediaJSON]
		if err := c.check(schema, good, one.id); err != nil {
			t.Errorf("a good request is none by the contract: %v", err)
		}
		n := 0
		c.mutants(schema, good, "body", func(what string, bad any) {
			n++
			b, err := json.Marshal(bad)
			if err != nil {
				t.Fatal(err)
			}
			if status, answer := one.to.do(o.method, o.path, api.MediaJSON, b); status != http.StatusBadRequest {
				t.Errorf("%s: %s: answer %d %.200s", one.id, what, status, answer)
			}
		})
		if n < 10 {
			t.Errorf("%s: %d mutants are too few", one.id, n)
		}
		for _, b := range [][]byte{nil, []byte("{"), append(b, b...), append(b, ' ', 'x'), []byte("[]"), []byte("null")} {
			if status, answer := one.to.do(o.method, o.path, api.MediaJSON, b); status != http.StatusBadRequest {
				t.Errorf("%s: %.20q: answer %d %.200s", one.id, b, status, answer)
			}
		}
	}
	if _, err := d.c.record(s.ID()); err == nil {
		t.Error("a record was taken from a request that breaks the contract")
	}
}
