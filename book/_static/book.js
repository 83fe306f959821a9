// Names and roles that the theme leaves out, for readers who listen to a page; short cells that are not to be broken.
const LONGEST = 24; // characters of a cell in one line: a number with its interval

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.dataframe td").forEach((cell) => {
    cell.classList.toggle("short", cell.textContent.trim().length <= LONGEST);
  });
  document.querySelectorAll(".bd-sidebar-primary summary").forEach((fold) => {
    const chapter = fold.closest("li")?.querySelector("a")?.textContent.trim();
    fold.setAttribute("aria-label", `Pages beneath ${chapter}`);
  });
  // A list whose items carry a role that lists may not have.
  document.querySelectorAll(".citation-list, .citation").forEach((part) => part.removeAttribute("role"));
});
