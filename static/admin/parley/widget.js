"use strict";

// Copies what an element shows.
for (const button of document.querySelectorAll("[data-copies]")) {
    const said = button.parentElement.querySelector("[data-copied]");
    button.addEventListener("click", async () => {
        const shown = document.getElementById(button.dataset.copies);
        try {
            await navigator.clipboard.writeText(shown.textContent);
            said.textContent = "Copied.";
        } catch {
            // Without TLS browsers let no page write the clipboard.
            getSelection().selectAllChildren(shown);
            said.textContent = "It is selected: copy it by keyboard.";
        }
    });
}
