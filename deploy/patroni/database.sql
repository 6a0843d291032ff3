-- Once, on the primary, by psql as postgres, with PLUGSTATUS_PASSWORD in the environment.
\set ON_ERROR_STOP on
\getenv password PLUGSTATUS_PASSWORD
CREATE ROLE plugstatus LOGIN PASSWORD :'password';
CREATE DATABASE plugstatus OWNER plugstatus;
REVOKE ALL ON DATABASE plugstatus FROM PUBLIC;
