'use strict';
// A click on a column's head sorts by it, a second one backwards. Rows without a number go last either way.
document.querySelectorAll('th button').forEach(function (button) {
  button.addEventListener('click', function () {
    var head = button.parentNode, heads = Array.from(head.parentNode.children), column = heads.indexOf(head);
    var descending = head.getAttribute('aria-sort') === 'ascending';
    var body = head.closest('table').tBodies[0], numeric = head.classList.contains('n');
    var key = function (row) {
      var cell = row.cells[column];
      return numeric ? parseFloat(cell.dataset.value) : cell.textContent;
    };
    var order = function (a, b) {
      var x = key(a), y = key(b);
      if (numeric) {
        if (isNaN(x) || isNaN(y)) { return isNaN(x) - isNaN(y); }
        return descending ? y - x : x - y;
      }
      return (descending ? -1 : 1) * x.localeCompare(y, 'en', { numeric: true });
    };
    heads.forEach(function (other) { other.removeAttribute('aria-sort'); });
    head.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    Array.from(body.rows).sort(order).forEach(function (row) { body.appendChild(row); });
  });
});
