(function () {
  'use strict';
  var form = document.getElementById('price');
  if (form) {
    var watts = document.getElementById('watts'), price = document.getElementById('per-kwh');
    var cells = document.querySelectorAll('#costs [data-rate]');
    var show = function () {
      var w = Number(watts.value), p = Number(price.value);
      cells.forEach(function (cell) {
        var cost = w / 1000 * (1e6 / Number(cell.dataset.rate)) / 3600 * p;
        cell.textContent = w > 0 ? Number(cost.toPrecision(3)).toString() : '';
      });
    };
    var assumed = document.getElementById('assumed');
    form.hidden = false;
    form.addEventListener('input', function () {
      assumed.hidden = false;
      assumed.querySelector('span').textContent = watts.value + ' W and ' + price.value + ' per kWh, typed in here';
      show();
    });
    if (assumed.dataset.example === 'true') {
      assumed.hidden = false;
      show();
    }
  }
  var all = document.querySelectorAll('details');
  var open = function (yes) { all.forEach(function (d) { d.open = yes; }); };
  var button = document.getElementById('unfold');
  button.hidden = false;
  button.addEventListener('click', function () {
    var yes = button.textContent === 'open all';
    document.querySelectorAll('#gates details').forEach(function (d) { d.open = yes; });
    button.textContent = yes ? 'close all' : 'open all';
  });
  window.addEventListener('beforeprint', function () { open(true); });
}());
