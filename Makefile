# make build | demo | demo-ui | test | vet | unit | real-stack | verify | conformance | fuzz | crash | bench | bench-scale | soak | screens | pictures | handbook | deps | clean
# Everything that a target needs is installed by it (Debian 12, root or sudo).

GO      ?= go
BIN     := bin
PRODUCT := kiosk/cmd/kiosk kiosk/cmd/kiosk-window registry/cmd/registry registry/cmd/vault \
           holder/cmd/holder holder/cmd/holder-window relyingparty/cmd/demo-site
BENCH   := simulators/cmd/demo simulators/cmd/virtualhardware
# Packages that build without cgo are also tested without it; the race
# detector needs cgo and runs over everything.
NOCGO   := ./hsm ./hsm/attest ./hsm/tpm ./kiosk ./kiosk/secret ./kiosk/wire ./kiosk/words ./registry/... \
           ./smartcard/apdu ./smartcard/beid ./smartcard/domain ./smartcard/icao ./smartcard/identity ./smartcard/inspection ./smartcard/lds \
           ./smartcard/portrait ./smartcard/prcid ./smartcard/tlv ./smartcard/trust ./sync/... ./ui/... \
           ./holder/sitekey ./holder/store ./relyingparty/...

.PHONY: all deps build demo demo-ui screens pictures handbook test vet unit real-stack verify conformance fuzz crash bench bench-scale soak clean

all: build

deps:
	scripts/install-packages

build: deps
	for p in $(PRODUCT); do $(GO) build -trimpath -o $(BIN)/ ./$$p || exit 1; done

$(BIN)/demo $(BIN)/virtualhardware: FORCE
	$(GO) build -trimpath -o $(BIN)/ ./simulators/cmd/$(@F)
FORCE:

demo: deps $(BIN)/demo
	$(BIN)/demo --out out/demo

demo-ui: deps
	$(GO) build -trimpath -o $(BIN)/ ./simulators/cmd/demo-ui
	$(BIN)/demo-ui

vet:
	test -z "$$(gofmt -l . | tee /dev/stderr)"
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# The end-to-end tests have people's patience as their limit, which the race
# detector would use up: under it run one enrollment and the double taps.
END_TO_END := simulators/cmd/demo

# The window is drawn by one goroutine, and what hands it its states is in these.
RACED := TestRun|TestDoubleTaps|TestUpdatesDoNotDisturb|TestThePictureGoes

unit:
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v -e $(END_TO_END) -e '/ui$$')
	$(GO) test -race -timeout 20m -run '$(RACED)' ./ui
	$(GO) test -timeout 20m ./ui
	$(GO) test -p 1 -timeout 20m ./$(END_TO_END)/...
	$(GO) test -race -timeout 20m -run 'TestOneCitizenEnrolled|TestEverythingTappedTwice' ./$(END_TO_END)/stage
	CGO_ENABLED=0 $(GO) build $(NOCGO)
	GOOS=windows CGO_ENABLED=0 $(GO) build -o /dev/null ./holder/cmd/holder

# build first: the window's test starts that program, and compiling it for the
# first time takes longer than a test may.
test: build vet unit

# The production binaries against the real pcscd, vpcd and swtpm, each in a
# process of its own.
real-stack: deps build $(BIN)/virtualhardware
	scripts/real-stack out/real-stack

verify:
	scripts/verify-record out/demo/record.json --receipt out/demo/receipt.tlog-proof --log-key out/demo/log.vkey

# The inspection system against BSI TR-03105 part 5.1: id, expected, got.
conformance: deps
	cd smartcard/conformance && $(GO) test -run TestConformance -count=1 -args -table

# Fuzz targets of cards, tokens, TPM, attestations and messages, a moment each.
fuzz: deps
	GO=$(GO) scripts/fuzz 2s

# Power cuts on ext4 and XFS under the working queue, N of them. Root, /dev/fuse.
crash: deps
	GO=$(GO) scripts/crash $(or $(N),500) $(SEED)

# Ratios within one run, with their goals.
bench: deps
	GO=$(GO) scripts/bench

# A registry with N stored records against one with ten thousand; by hand.
bench-scale: deps
	GO=$(GO) scripts/bench-scale $(N)

# Fifty kiosks, the registry restarted at random on PostgreSQL; by hand, a tenth
# of it in CI: make soak N=10000.
soak: deps
	$(GO) test ./registry/internal/soak -count=1 -v -timeout 6h -records $(or $(N),100000)

# Every screen in every language, for people to look at.
screens:
	$(GO) run ./ui/internal/contactsheet

# The README's pictures, from the demo and the screens, in 256 colours.
pictures: demo screens
	mkdir -p docs/pictures
	for s in compare choose-pin review receipt; do \
	  convert out/demo/screens/??-$$s.png -strip -colors 256 -define png:compression-level=9 docs/pictures/$$s.png || exit 1; done
	convert out/screens/en/*-home-5-split-view.png -strip -colors 256 -define png:compression-level=9 docs/pictures/split-view.png
	convert out/screens/en/*-trouble.K-CARD-04.png -strip -colors 256 -define png:compression-level=9 docs/pictures/trouble.png

# The pictures of docs/handbook.md, of the real window.
handbook: deps build
	GO=$(GO) scripts/handbook

clean:
	rm -rf $(BIN) out
