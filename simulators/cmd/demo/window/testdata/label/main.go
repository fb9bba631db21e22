// Command label is the least that a window can be: what the kiosk's is measured
// against.
package main

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"fyne.io/fyne/v2/widget"
)

func main() {
	w := app.New().NewWindow("Label")
	w.SetContent(widget.NewLabel("Label"))
	w.Resize(fyne.NewSize(1280, 800))
	w.ShowAndRun()
}
