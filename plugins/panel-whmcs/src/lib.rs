//! plugin-panel-whmcs
