// The page that shows a new API key once: copies it, and keeps a reload from issuing another.
"use strict";

const page = document.getElementById("issued-key");
history.replaceState(null, "", page.dataset.list);

document.getElementById("copy-key")?.addEventListener("click", async (event) => {
  const key = document.getElementById("key");
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(key.textContent);
    button.textContent = "Copied";
  } catch {
    // Without HTTPS there is no clipboard: select the text, so that the keyboard can copy it.
    getSelection().selectAllChildren(key);
    button.textContent = "Selected: press Ctrl+C";
  }
});
