// A chip in an answer opens the passage that it names.
"use strict";

document.addEventListener("click", (event) => {
  const chip = event.target.closest("a.p-chip[href^='#']");
  const passage = chip && document.getElementById(chip.hash.slice(1));
  if (!passage) return;
  event.preventDefault();
  passage.open = true;
  for (const other of document.querySelectorAll(".p-passage.is-target")) other.classList.remove("is-target");
  passage.classList.add("is-target");
  passage.scrollIntoView({ block: "nearest", behavior: "smooth" });
});
