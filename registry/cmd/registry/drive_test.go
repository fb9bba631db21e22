package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/record"
)

// A drive is imported while the registry serves, and while it does not: then the
// records are taken on, and their receipts come later.
func TestImport(t *testing.T) {
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	file := write(t, w.Dir, "registry.toml", config(w, ""))
	k := w.Traveller(t, "KIOSK-0001")
	d, err := parcel.OpenDrive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ends(t, command.Usage, "is the drive mounted", "import", filepath.Join(d.Dir(), "none"), "--config", file)
	ends(t, command.Usage, "arguments", "import", "--config", file)
	ends(t, command.Usage, "--wait", "import", d.Dir(), "--config", file, "--wait", "-1s")
	ends(t, command.Done, "0 records", "import", d.Dir(), "--config", file)
	bad := k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Audience = "elsewhere.example/log" }})
	k.Export(t, d, nil, []record.Submission{k.Make(t, registrytest.Spec{}), bad})
	out := ends(t, command.Done, "parcel   of KIOSK-0001", "import", d.Dir(), "--config", file, "--wait", "0s")
	for _, says := range []string{"rejected", "record-audience", "2 records, 1 with a receipt or a rejection", "Import the drive again"} {
		if !strings.Contains(out, says) {
			t.Errorf("it does not say %q:\n%s", says, out)
		}
	}

	c := program(t, "serve", "--config", file)
	pipe, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(pipe).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	ends(t, command.Done, "2 records, 2 with a receipt or a rejection", "import", d.Dir(), "--config", file)
	var in registry.Imported
	if err := json.Unmarshal([]byte(ends(t, command.Done, "", "import", d.Dir(), "--config", file, "--json")), &in); err != nil || len(in.Parcels) != 1 || in.Parcels[0].Kiosk != k.ID {
		t.Errorf("%+v, %v", in, err)
	}
	records, err := d.Names(parcel.Records)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(d.Dir(), records[0]), 100); err != nil {
		t.Fatal(err)
	}
	out = ends(t, command.Refused, "REFUSED  "+records[0], "import", d.Dir(), "--config", file)
	if !strings.Contains(out, "export it again") {
		t.Errorf("it does not say what to do:\n%s", out)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestExchangeNew(t *testing.T) {
	w := registrytest.New(t)
	ends(t, command.Usage, "exchange new", "exchange")
	before := w.Policy.Policy().Exchange[0].ID
	ends(t, command.Done, "Start the registry anew", "exchange", "new", w.RegistryDir())
	pub, err := registry.ReadPublic(w.RegistryDir())
	if err != nil || len(pub.Exchange) != 2 || pub.Exchange[1].ID != before {
		t.Errorf("%+v, %v", pub.Exchange, err)
	}
	// A registry that was set up before there were any.
	pub.Exchange = nil
	if err := os.RemoveAll(filepath.Join(w.RegistryDir(), "exchange")); err != nil {
		t.Fatal(err)
	}
	write(t, w.RegistryDir(), "public.json", string(api.MarshalKeys(pub)))
	ends(t, command.Done, "made exchange key", "exchange", "new", w.RegistryDir())
	if pub, err = registry.ReadPublic(w.RegistryDir()); err != nil || len(pub.Exchange) != 1 {
		t.Errorf("%+v, %v", pub.Exchange, err)
	}
	keys, err := filepath.Glob(filepath.Join(w.RegistryDir(), "exchange", "*.key"))
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	if info, err := os.Stat(keys[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	ends(t, command.Failed, "no such file", "exchange", "new", t.TempDir())
}
