// Names and roles that the theme leaves out, for readers who listen to a page.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-sidebar-primary summary").forEach((fold) => {
    const chapter = fold.closest("li")?.querySelector("a")?.textContent.trim();
    fold.setAttribute("aria-label", `Pages beneath ${chapter}`);
  });
  // A list whose items carry a role that lists may not have.
  document.querySelectorAll(".citation-list, .citation").forEach((part) => part.removeAttribute("role"));
});
