/* Progressive enhancement only: every page works without this file.
   ES2015, no modules, no eval, nothing inline. */
(function () {
  'use strict';

  function all(selector) {
    return Array.prototype.slice.call(document.querySelectorAll(selector));
  }

  // The error summary takes the focus.
  var summary = document.querySelector('.sum');
  if (summary) { summary.focus(); }

  // Show and hide the password; it is always hidden again before the form leaves.
  all('[data-toggle]').forEach(function (button) {
    var input = document.getElementById(button.getAttribute('data-toggle'));
    function set(shown) {
      input.type = shown ? 'text' : 'password';
      button.textContent = button.getAttribute(shown ? 'data-hide' : 'data-show');
    }
    button.hidden = false;
    button.addEventListener('click', function () { set(input.type === 'password'); });
    input.form.addEventListener('submit', function () { set(false); });
  });

  // Radio cards: mark the chosen one (:has() is too new for our oldest browsers).
  function mark() {
    all('.pick input').forEach(function (input) {
      input.closest('.pick').classList.toggle('on', input.checked);
    });
  }
  document.addEventListener('change', mark);

  // A second click on a form that is already on its way does nothing, and the button says so meanwhile.
  var sent = [];
  function free() {
    sent.forEach(function (entry) {
      if (entry.label) { entry.button.innerHTML = entry.label; }
    });
    sent = [];
  }
  all('form').forEach(function (form) {
    form.addEventListener('submit', function (event) {
      if (sent.length) { event.preventDefault(); return; }
      var button = event.submitter;  // absent in our oldest browsers
      var named = button && button.classList.contains('btn');
      sent.push({ button: button, label: named && button.innerHTML });
      if (named) { button.textContent = document.body.getAttribute('data-busy'); }
      setTimeout(free, 8000);
    });
  });
  window.addEventListener('pageshow', function () { free(); mark(); });
}());
