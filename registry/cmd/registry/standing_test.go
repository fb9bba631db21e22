package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
)

// A kiosk's chain and a citizen's cancel code, as the people at the registry see
// them: while it serves, and after.
func TestKiosksShowAndCancellations(t *testing.T) {
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	file := write(t, w.Dir, "registry.toml", config(w, "cancel = \"100h\""))
	ends(t, command.Usage, "registry.cancel", "serve", "--config", write(t, w.Dir, "bad.toml", config(w, "cancel = \"1m\"")))
	c := program(t, "serve", "--config", file)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(line, err)
	}
	url := strings.TrimSpace(strings.TrimPrefix(line, "ready "))
	k := w.Kiosk(t, "KIOSK-0001")
	post := func(path string, body any, kiosk bool) {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		settings := w.TLS(t)
		if kiosk {
			settings = w.TLS(t, k.TLS)
		}
		transport := &http.Transport{TLSClientConfig: settings}
		defer transport.CloseIdleConnections()
		a, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Post(url+path, api.MediaJSON, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if a.StatusCode/100 != 2 {
			t.Fatalf("%s: %d", path, a.StatusCode)
		}
	}
	holder, code := registrytest.NewDevice(t), [16]byte{7}
	did, err := record.DIDKey(holder.Public())
	if err != nil {
		t.Fatal(err)
	}
	first := k.Make(t, registrytest.Spec{Holder: &holder, Payload: func(p *record.Payload) { p.CancelSHA = record.CancelHash(code[:]) }})
	twin := k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }})
	k.Sequence = 3
	later := k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) { p.Times.Wall = p.Times.Wall.Add(time.Hour) }})
	for _, s := range []record.Submission{first, twin, later} {
		post(api.PathRecords, api.Batch{Items: []api.Item{{ID: s.ID(), Submission: s.Bytes()}}}, true)
	}
	show := []string{"kiosks", "show", "KIOSK-0001", "--config", file}
	ends(t, command.Done, "GAP       2 to 3, since ", show...)
	ends(t, command.Done, fmt.Sprintf("registry-fork  number 1  record %s  contradicts %s at 1", api.ID(twin.ID()), api.ID(first.ID())), show...)
	ends(t, command.Done, "CLOCK     number 4  clock-ahead by ", show...)
	ends(t, command.Done, "records   2 taken on, 0 rejected, the highest number 4", show...)
	ends(t, command.Done, "ALARM     1 records contradict", show...)
	ends(t, command.Failed, "no kiosk of this id", "kiosks", "show", "KIOSK-0404", "--config", file)
	ends(t, command.Done, "standing  in good standing", "kiosks", "show", "KIOSK-0001", "--dir", w.RegistryDir())
	b, err := program(t, append(show, "--json")...).Output()
	var report registry.KioskReport
	if err == nil {
		err = json.Unmarshal(b, &report)
	}
	if err != nil || report.ID != k.ID || report.Chain.Missing != 2 || len(report.Forks) != 1 || report.LastContact.IsZero() || len(report.Alarms) != 3 {
		t.Errorf("%v\n%s", err, b)
	}

	ends(t, command.Usage, "cancellations list, show, lift or confirm", "cancellations")
	ends(t, command.Refused, "was not given", "cancellations", "show", did, "--config", file)
	post(api.PathCancellations, api.Cancellation{Code: record.FormatCancelCode(code)}, false)
	ends(t, command.Done, did, "cancellations", "list", "--config", file)
	ends(t, command.Done, "suspended, revokes on "+time.Now().Add(100*time.Hour).UTC().Format(time.DateOnly), "cancellations", "show", did, "--config", file)
	ends(t, command.Usage, "--by and --reason", "cancellations", "lift", did, "--config", file)
	ends(t, command.Refused, "was not given", "cancellations", "lift", did+"x", "--by", "desk 7", "--reason", "x", "--config", file)
	ends(t, command.Done, "lifted on ", "cancellations", "lift", did, "--by", "desk 7", "--reason", "a child found the paper", "--config", file)
	ends(t, command.Refused, "lifted or revoked already", "cancellations", "confirm", did, "--by", "desk 8", "--reason", "x", "--config", file)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	ends(t, command.Done, "reason    a child found the paper", "cancellations", "show", did, "--config", file)
	ends(t, command.Done, `"state": "lifted"`, "cancellations", "list", "--all", "--json", "--config", file)
	ends(t, command.Usage, "--since", "kiosks", "revoke", "KIOSK-0001", "--since", "tomorrow", "--config", file)
	ends(t, command.Done, "is revoked", "kiosks", "revoke", "KIOSK-0001", "--since", time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly), "--config", file)
	ends(t, command.Done, "SUSPECT   "+api.ID(first.ID()).String(), show...)
	ends(t, command.Done, "ALARM     2 records were taken on that it made after", show...)
}
